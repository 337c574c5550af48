// Frames to squares of RGB pixels: processing/frame_scaler_lmmvqa.py, with what FFmpeg's scaler does written out.

// Luma's share of red and blue, of the matrices as WebCodecs names them
const LUMA_SHARES = {
  bt709: [0.2126, 0.0722],
  smpte170m: [0.299, 0.114],
  bt470bg: [0.299, 0.114],
  "bt2020-ncl": [0.2627, 0.0593],
};
// What FFmpeg takes where none is named
const DEFAULT_MATRIX = "smpte170m";
// Horizontal and vertical subsampling of chroma, as shifts
const SUBSAMPLING = { I420: [1, 1], NV12: [1, 1], I422: [1, 0], I444: [0, 0] };
// Longest side, in sides of the square, up to which frames are enlarged for fragments
const MOST_ENLARGED = 16;

/** The planes of a VideoFrame as the decoder gave them: no colour has been converted yet. */
export async function readPlanes(frame) {
  const { format, colorSpace } = frame;
  if (!(format in SUBSAMPLING)) {
    throw new Error(`got frames of format ${format}, expected 8 bits a channel (${Object.keys(SUBSAMPLING).join(", ")}); score this video with lmmvqa score`);
  }
  if (colorSpace.transfer === "pq" || colorSpace.transfer === "hlg") {
    throw new Error(`got HDR (${colorSpace.transfer}), expected standard range; score this video with lmmvqa score`);
  }
  const { width, height } = frame.visibleRect;
  const data = new Uint8Array(frame.allocationSize());
  const layout = await frame.copyTo(data);
  const [shiftX, shiftY] = SUBSAMPLING[format];
  const chroma = { width: (width + (1 << shiftX) - 1) >> shiftX, height: (height + (1 << shiftY) - 1) >> shiftY };
  const plane = ({ offset, stride }, size, step = 1, first = 0) => {
    const values = new Uint8Array(size.width * size.height);
    for (let y = 0, to = 0; y < size.height; y++) {
      for (let x = 0, from = offset + y * stride + first; x < size.width; x++, from += step) values[to++] = data[from];
    }
    return { ...size, values };
  };
  const planes =
    format === "NV12"
      ? [plane(layout[0], { width, height }), plane(layout[1], chroma, 2, 0), plane(layout[1], chroma, 2, 1)]
      : [plane(layout[0], { width, height }), plane(layout[1], chroma), plane(layout[2], chroma)];
  return { planes, matrix: colorSpace.matrix, isFullRange: colorSpace.fullRange === true, rotation: frame.rotation };
}

/** A picture of readPlanes as a square, upright: (size, size, 3). */
export function square(picture, size, fragments) {
  const [{ width, height }] = picture.planes;
  const [newWidth, newHeight] = scaledSize(width, height, size, fragments);
  const isKept = newWidth === width && newHeight === height && isConvertedAlone(picture);
  const planes = isKept ? picture.planes : scaledPlanes(picture.planes, newWidth, newHeight);
  const patch = size / fragments;
  const pixels = new Uint8Array(size * size * 3);
  const convert = converter(picture, planes, isKept);
  for (let row = 0; row < fragments; row++) {
    for (let column = 0; column < fragments; column++) {
      const top = roundHalfEven(((row + 0.5) / fragments) * newHeight - patch / 2);
      const left = roundHalfEven(((column + 0.5) / fragments) * newWidth - patch / 2);
      for (let y = 0; y < patch; y++) {
        const to = ((row * patch + y) * size + column * patch) * 3;
        for (let x = 0; x < patch; x++) convert(left + x, top + y, pixels, to + 3 * x);
      }
    }
  }
  return turned(pixels, size, picture.rotation);
}

export function scaledSize(width, height, size, fragments) {
  if (fragments === 1) return [size, size];
  const enlargement = Math.max(1, size / Math.min(width, height));
  const most = MOST_ENLARGED * size;
  return [width, height].map((side) => Math.max(size, side, Math.min(roundHalfEven(side * enlargement), most)));
}

// As Python and NumPy round
function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

// FFmpeg converts subsampled chroma of even heights without a filter, where nothing is scaled
function isConvertedAlone({ planes: [luma, chroma] }) {
  return luma.width > chroma.width && luma.height % 2 === 0;
}

function scaledPlanes([luma, u, v], width, height) {
  // FFmpeg gives two pixels of RGB one chroma, but where there was more, or one would be left over
  const chromaWidth = u.width === luma.width || width % 2 ? width : width / 2;
  return [scaledPlane(luma, width, height), scaledPlane(u, chromaWidth, height), scaledPlane(v, chromaWidth, height)];
}

function scaledPlane({ width, height, values }, newWidth, newHeight) {
  const across = new Float32Array(newWidth * height);
  const columns = cubicFilters(width, newWidth);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      const { first, weights } = columns[x];
      let sum = 0;
      for (let tap = 0, from = y * width + first; tap < weights.length; tap++) sum += weights[tap] * values[from++];
      across[y * newWidth + x] = sum;
    }
  }
  const result = new Float32Array(newWidth * newHeight);
  cubicFilters(height, newHeight).forEach(({ first, weights }, y) => {
    for (let tap = 0; tap < weights.length; tap++) {
      const from = (first + tap) * newWidth;
      for (let x = 0, to = y * newWidth; x < newWidth; x++) result[to++] += weights[tap] * across[from + x];
    }
  });
  return { width: newWidth, height: newHeight, values: result };
}

// FFmpeg's bicubic: Keys' kernel with a = -0.6, widened where pictures shrink; beyond the border its pixel goes on
function cubicFilters(size, newSize) {
  const ratio = size / newSize;
  const stretch = Math.max(1, ratio);
  return Array.from({ length: newSize }, (_, index) => {
    const centre = (index + 0.5) * ratio - 0.5;
    const start = Math.ceil(centre - 2 * stretch);
    const end = Math.floor(centre + 2 * stretch);
    const first = Math.min(Math.max(start, 0), size - 1);
    const last = Math.max(Math.min(end, size - 1), first);
    const weights = new Float64Array(last - first + 1);
    for (let place = start; place <= end; place++) {
      weights[Math.min(Math.max(place, first), last) - first] += cubic(Math.abs(place - centre) / stretch);
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function cubic(distance) {
  const a = -0.6;
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a;
  return 0;
}

/**
 * A function that writes the pixel (x, y) as RGB, in one of three ways of FFmpeg's, which round differently: by up to two
 * levels, which a model that looks for compression sees.
 */
function converter({ matrix, isFullRange }, [luma, u, v], isKept) {
  const [red, blue] = LUMA_SHARES[matrix] ?? LUMA_SHARES[DEFAULT_MATRIX];
  const green = 1 - red - blue;
  const [black, range, chromaRange] = isFullRange ? [0, 255, 255] : [16, 219, 224];
  const gain = 255 / range;
  const ofRed = (2 * (1 - red) * 255) / chromaRange;
  const ofBlue = (2 * (1 - blue) * 255) / chromaRange;
  const [redInGreen, blueInGreen] = [(-ofRed * red) / green, (-ofBlue * blue) / green];
  const shiftX = luma.width > u.width ? 1 : 0;
  const shiftY = luma.height > u.height ? 1 : 0;
  const { floor } = Math;
  const round = (value) => floor(value + 0.5);
  const at = (x, y) => (y >> shiftY) * u.width + (x >> shiftX);

  if (isKept) {
    // Each term is rounded down by itself
    return (x, y, pixels, to) => {
      const light = floor((luma.values[y * luma.width + x] - black) * gain);
      const [cb, cr] = [u.values[at(x, y)] - 128, v.values[at(x, y)] - 128];
      pixels[to] = clamp(light + floor(cr * ofRed));
      pixels[to + 1] = clamp(light + floor(cb * blueInGreen) + floor(cr * redInGreen));
      pixels[to + 2] = clamp(light + floor(cb * ofBlue));
    };
  }
  if (shiftX) {
    // Tables: chroma is a number of steps of luma, and luma's table begins somewhat low
    const start = isFullRange ? 0 : 326 * gain - 384;
    const level = (light) => clamp(round(light * gain + start - black));
    const steps = (weight) => {
      const ofGrey = floor((128 * weight) / gain);
      return Int16Array.from({ length: 256 }, (_, chroma) => floor((chroma * weight) / gain) - ofGrey);
    };
    const [toRed, toBlue, redToGreen, blueToGreen] = [ofRed, ofBlue, redInGreen, blueInGreen].map(steps);
    return (x, y, pixels, to) => {
      const light = round(luma.values[y * luma.width + x]);
      const [cb, cr] = [clamp(round(u.values[at(x, y)])), clamp(round(v.values[at(x, y)]))];
      pixels[to] = level(light + toRed[cr]);
      pixels[to + 1] = level(light + blueToGreen[cb] + redToGreen[cr]);
      pixels[to + 2] = level(light + toBlue[cb]);
    };
  }
  return (x, y, pixels, to) => {
    const light = (luma.values[y * luma.width + x] - black) * gain;
    const [cb, cr] = [u.values[at(x, y)] - 128, v.values[at(x, y)] - 128];
    pixels[to] = clamp(round(light + cr * ofRed));
    pixels[to + 1] = clamp(round(light + cb * blueInGreen + cr * redInGreen));
    pixels[to + 2] = clamp(round(light + cb * ofBlue));
  };
}

function clamp(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** Turned clockwise by a multiple of 90 degrees. */
function turned(pixels, size, rotation) {
  for (let turn = 0; turn < rotation / 90; turn++) {
    const source = pixels;
    pixels = new Uint8Array(source.length);
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const from = ((size - 1 - x) * size + y) * 3;
        pixels.set(source.subarray(from, from + 3), (y * size + x) * 3);
      }
    }
  }
  return pixels;
}
