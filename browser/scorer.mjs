// A video in a <video> element to its score: every frame is grabbed while the element plays, and a worker does the rest.

// A busy browser shows fewer frames than it decodes, and fewer the faster it plays
const RATES = [1, 1 / 4];
// Frames on their way to the worker; with more of them the video pauses
const [MOST_WAITING, FEW_WAITING] = [12, 4];

export class Scorer {
  /** `folder` holds what `lmmvqa export --onnx` wrote. */
  static async load(folder) {
    const scorer = new Scorer();
    scorer.worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
    scorer.calls = new Map();
    scorer.worker.onmessage = ({ data }) => {
      const { resolve, reject } = scorer.calls.get(data.id);
      scorer.calls.delete(data.id);
      data.error === undefined ? resolve(data.result) : reject(new Error(data.error));
    };
    await scorer.call("load", { folder: new URL(folder, location.href).href });
    return scorer;
  }

  call(name, data = {}, transferred = []) {
    const id = (this.lastId = (this.lastId ?? 0) + 1);
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, ...data }, transferred);
    });
  }

  /**
   * The result of the video at an address (that of a file is URL.createObjectURL(file)): score, score_std, level,
   * level_probabilities, damage and windows as `lmmvqa score --json` has them; frames, and missed_frames that the browser
   * decoded and never showed.
   */
  async score(video, address, onProgress = () => {}) {
    let seen, decoded;
    for (const rate of RATES) {
      await this.call("start");
      [seen, decoded] = await this.play(video, address, rate, onProgress);
      if (seen.length === decoded) break;
    }
    if (decoded === 0) throw new Error("got no frame, expected a video that this browser plays");
    if (seen.length < decoded) {
      await this.call("start");
      seen = await this.step(video, seen, onProgress);
    }
    return { ...(await this.call("finish")), frames: seen.length, missed_frames: decoded - seen.length };
  }

  take(frame) {
    return this.call("frame", { frame }, [frame]);
  }

  /** Plays to the end; gives the time stamps of the frames that were grabbed, and how many the browser decoded. */
  play(video, address, rate, onProgress) {
    return new Promise((resolve, reject) => {
      const seen = [];
      const waiting = new Set();
      let isOver = false;
      const fail = (error) => {
        isOver = true;
        video.pause();
        reject(error);
      };
      const playOn = () => video.play().catch((error) => error.name === "AbortError" || fail(error));
      const grab = () => {
        const frame = new VideoFrame(video);
        if (frame.timestamp <= seen.at(-1)) return frame.close();
        seen.push(frame.timestamp);
        const taken = this.take(frame);
        waiting.add(taken);
        if (waiting.size >= MOST_WAITING) video.pause();
        taken.then(() => {
          waiting.delete(taken);
          if (video.paused && !video.ended && !isOver && waiting.size <= FEW_WAITING) playOn();
        }, fail);
        onProgress(video.currentTime / video.duration);
      };
      const onPresented = () => {
        if (isOver) return;
        grab();
        video.requestVideoFrameCallback(onPresented);
      };
      video.onended = async () => {
        grab();
        isOver = true;
        await Promise.allSettled([...waiting]);
        resolve([seen, video.getVideoPlaybackQuality().totalVideoFrames]);
      };
      video.onerror = () => fail(new Error(`this browser cannot play the video: ${video.error.message}`));
      video.requestVideoFrameCallback(onPresented);
      video.muted = true;
      video.src = address;
      video.defaultPlaybackRate = video.playbackRate = rate;
      playOn();
    });
  }

  /** Seeks from frame to frame, which takes longer and misses none; `played` are time stamps of some of them. */
  async step(video, played, onProgress) {
    const shortest = Math.min(...played.slice(1).map((time, index) => time - played[index]));
    const end = video.duration * 1e6;
    const seen = [];
    for (let time = 0, isLast = false; !isLast; ) {
      isLast = time >= end;
      const shown = new Promise((resolve) => video.requestVideoFrameCallback(resolve));
      video.currentTime = Math.min(time, end) / 1e6;
      await shown;
      const frame = new VideoFrame(video);
      const { timestamp } = frame;
      if (timestamp <= seen.at(-1)) {
        frame.close();
        time += shortest;
      } else {
        seen.push(timestamp);
        await this.take(frame);
        // Between the next frame and the one after it
        time = timestamp + 1.5 * shortest;
      }
      onProgress(Math.min(1, time / end));
    }
    return seen;
  }
}
