// Frames with their times to key frames and chunks: processing/video_decoding_lmmvqa.py with chunk_sampling="second".

import { square } from "./frames.mjs";

// See there
const MAX_CLIPS = 4;
const SHORTEST_CHUNK = 0.5;
// Browsers round time stamps to microseconds
const TOLERANCE = 1e-5;

/** The chunks of a video while its frames come in; the last one stays back until it is known how the video ends. */
export class Chunks {
  constructor(settings) {
    this.settings = settings;
    this.chunks = [];
    this.numFrames = 0;
  }

  /** A picture of readPlanes, `time` in seconds from the first one; returns the chunks that are complete. */
  add(time, picture) {
    const { key_frame_size, key_frame_fragments, chunk_size, chunk_fragments, chunk_frames, small_frames } = this.settings;
    const second = Math.floor(time + TOLERANCE);
    const complete = [];
    if (!this.chunks.length || second > this.chunks.at(-1).second) {
      if (this.chunks.length === 2) complete.push(this.chunks.shift());
      const keyFrame = key_frame_fragments.map((fragments) => square(picture, key_frame_size, fragments, small_frames));
      this.chunks.push({ second, keyFrame, frames: [], framesBehind: [], stride: 1, numMet: 0 });
    }
    const chunk = this.chunks.at(-1);
    if (chunk.numMet++ % chunk.stride === 0) {
      chunk.frames.push(square(picture, chunk_size, chunk_fragments, small_frames));
      if (chunk.frames.length > MAX_CLIPS * chunk_frames) {
        chunk.frames = everyNth(chunk.frames, 0, 2);
        chunk.stride *= 2;
      }
    }
    this.step = time - this.time || this.step;
    this.time = time;
    this.numFrames++;
    return complete;
  }

  /** The chunks that are left: a last second that is not complete counts from half a second on, or joins the one before. */
  end() {
    const duration = this.time + (this.step || 0);
    const last = this.chunks.at(-1);
    const length = duration - last.second + duration / this.numFrames / 2;
    if (this.chunks.length > 1 && length < SHORTEST_CHUNK) {
      const [chunk] = this.chunks;
      chunk.framesBehind = everyNth(last.frames, 0, Math.max(1, Math.floor(chunk.stride / last.stride)));
      this.chunks.pop();
    }
    return this.chunks;
  }
}

/** In clips of at most so many frames, each spread over the whole second; those of a short second behind it too. */
export function clipsOf({ frames, framesBehind }, most) {
  const longest = Math.max(frames.length, framesBehind.length);
  const count = 2 ** Math.ceil(Math.log2(Math.max(1, longest / most)));
  return [frames, framesBehind]
    .flatMap((list) => Array.from({ length: count }, (_, first) => everyNth(list, first, count)))
    .filter((clip) => clip.length);
}

function everyNth(list, first, step) {
  return list.filter((_, index) => index >= first && (index - first) % step === 0);
}
