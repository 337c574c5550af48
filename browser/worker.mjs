// Everything but the <video> element: it must not be kept from showing each frame.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { answerProbabilities, damageShares, mixed, readScore, windowsOf } from "./answers.mjs";
import { Chunks, clipsOf } from "./chunks.mjs";
import { readPlanes } from "./frames.mjs";

let model, chunks, features, first, work;

const handlers = {
  async load({ folder }) {
    const settings = await (await fetch(`${folder}/browser.json`)).json();
    const [towers, decoder] = await Promise.all(
      ["towers.onnx", "decoder.onnx"].map((name) => ort.InferenceSession.create(`${folder}/${name}`)),
    );
    model = { settings, towers, decoder };
  },
  async start() {
    chunks = new Chunks(model.settings);
    features = [];
    first = undefined;
  },
  async frame({ frame }) {
    first ??= frame.timestamp;
    const time = (frame.timestamp - first) / 1e6;
    const picture = await readPlanes(frame).finally(() => frame.close());
    for (const chunk of chunks.add(time, picture)) features.push(await encode(chunk));
  },
  async finish() {
    for (const chunk of chunks.end()) features.push(await encode(chunk));
    return await answer();
  },
};

onmessage = ({ data }) => {
  work = (work ?? Promise.resolve()).then(async () => {
    try {
      postMessage({ id: data.id, result: await handlers[data.name](data) });
    } catch (error) {
      postMessage({ id: data.id, error: error.message });
    }
  });
};

async function encode(chunk) {
  const { key_frame_size, image_mean, image_std, chunk_size, chunk_frames, chunk_mean, chunk_std } = model.settings;
  const clips = clipsOf(chunk, chunk_frames);
  const whole = clips.flatMap((clip) => [...clip, ...Array(chunk_frames - clip.length).fill(clip.at(-1))]);
  const keyFrames = normalised(chunk.keyFrame, image_mean, image_std);
  const chunkPixels = normalised(whole, chunk_mean, chunk_std);
  const { vision_features, temporal_features } = await model.towers.run({
    pixel_values: new ort.Tensor("float32", keyFrames, [chunk.keyFrame.length, 3, key_frame_size, key_frame_size]),
    pixel_values_videos: new ort.Tensor("float32", chunkPixels, [clips.length, chunk_frames, 3, chunk_size, chunk_size]),
    num_clips: integers([clips.length], [1]),
    num_frames: integers(clips.map((clip) => clip.length), [clips.length]),
  });
  return { second: chunk.second, vision_features, temporal_features };
}

/** (size, size, 3) squares to (squares, 3, size, size), each channel with mean 0 and deviation 1. */
function normalised(squares, mean, std) {
  const area = squares[0].length / 3;
  const values = new Float32Array(squares.length * area * 3);
  squares.forEach((pixels, index) => {
    for (let channel = 0; channel < 3; channel++) {
      const to = (index * 3 + channel) * area;
      for (let place = 0; place < area; place++) {
        values[to + place] = (pixels[3 * place + channel] - mean[channel]) / std[channel];
      }
    }
  });
  return values;
}

function integers(values, shape) {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
}

async function answer() {
  const { questions } = model.settings;
  const windows = windowsOf(features.map(({ second }) => second), questions.score.prompts.length);
  const distributions = {};
  for (const [name, question] of Object.entries(questions)) {
    distributions[name] = [];
    for (const window of windows) distributions[name].push(await ask(question, window));
  }
  const scoreOf = (probabilities) => readScore(probabilities, model.settings);
  const shares = distributions.damage?.map((probabilities) => damageShares(probabilities, model.settings));
  const damage = shares && mixed(windows, shares);
  return {
    ...scoreOf(mixed(windows, distributions.score)),
    damage: damage && Object.fromEntries(questions.damage.answers.map((kind, index) => [kind, damage[index]])),
    windows: windows.map(({ start, end }, index) => ({ start, end, score: scoreOf(distributions.score[index]).score })),
  };
}

async function ask({ prompts, answer_ids }, { firstChunk, endChunk }) {
  const of = features.slice(firstChunk, endChunk);
  const prompt = prompts[of.length - 1];
  const { logits } = await model.decoder.run({
    input_ids: integers(prompt, [1, prompt.length]),
    attention_mask: integers(prompt.map(() => 1), [1, prompt.length]),
    num_chunks: integers([of.length], [1]),
    vision_features: joined(of.map((chunk) => chunk.vision_features)),
    temporal_features: joined(of.map((chunk) => chunk.temporal_features)),
  });
  return answerProbabilities(logits.data, answer_ids);
}

function joined(tensors) {
  const [, ...shape] = tensors[0].dims;
  const values = new Float32Array(tensors.length * tensors[0].size);
  tensors.forEach((tensor, index) => values.set(tensor.data, index * tensor.size));
  return new ort.Tensor("float32", values, [tensors.length, ...shape]);
}
