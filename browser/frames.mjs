// Frames to squares of RGB pixels: processing/frame_scaler_lmmvqa.py, with what FFmpeg's scaler does written out.

// Cr in red, Cb in blue, less Cb and Cr in green, times 2 ** 16, in limited range: FFmpeg's. Matrices as WebCodecs names them
const MATRICES = {
  bt709: [117489, 138438, 13975, 34925],
  smpte170m: [104597, 132201, 25675, 53279],
  bt470bg: [104597, 132201, 25675, 53279],
  "bt2020-ncl": [110013, 140363, 12277, 42626],
};
// What FFmpeg takes where none is named
const DEFAULT_MATRIX = "smpte170m";
// Horizontal and vertical subsampling of chroma, as shifts
const SUBSAMPLING = { I420: [1, 1], NV12: [1, 1], I422: [1, 0], I444: [0, 0] };
// Longest side, in sides of the least that fragments need, up to which frames are enlarged for them
const MOST_ENLARGED = 16;
// Filters of FFmpeg's scaler: what their weights sum to, and of what their lengths are multiples
const ACROSS = { one: 1 << 14, multiple: 4 };
const DOWN = { one: 1 << 12, multiple: 2 };
// A level of what was scaled both ways, less the 7 bits that are dropped between them
const SCALED = 1 << 19;

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
export function square(picture, size, fragments, smallFrames) {
  const [{ width, height }] = picture.planes;
  const patch = size / fragments;
  const shortest = fragments > 1 && smallFrames === "overlap" ? patch : size;
  const [newWidth, newHeight] = fragments === 1 ? [size, size] : scaledSize(width, height, shortest);
  const isKept = newWidth === width && newHeight === height && isConvertedAlone(picture);
  const planes = isKept ? picture.planes : scaledPlanes(picture.planes, newWidth, newHeight);
  const pixels = new Uint8Array(size * size * 3);
  const convert = converter(picture, planes, isKept);
  for (let row = 0; row < fragments; row++) {
    for (let column = 0; column < fragments; column++) {
      const top = patchStart(row, newHeight, size, fragments);
      const left = patchStart(column, newWidth, size, fragments);
      for (let y = 0; y < patch; y++) {
        const to = ((row * patch + y) * size + column * patch) * 3;
        for (let x = 0; x < patch; x++) convert(left + x, top + y, pixels, to + 3 * x);
      }
    }
  }
  return turned(pixels, size, picture.rotation);
}

function scaledSize(width, height, shortest) {
  const enlargement = Math.max(1, shortest / Math.min(width, height));
  const most = MOST_ENLARGED * shortest;
  return [width, height].map((side) => Math.max(shortest, side, Math.min(roundHalfEven(side * enlargement), most)));
}

// The middle of each cell, or where a side is shorter than the square patches that overlap, from edge to edge
function patchStart(index, side, size, fragments) {
  const patch = size / fragments;
  if (fragments > 1 && side < size) return roundHalfEven((index * (side - patch)) / (fragments - 1));
  return roundHalfEven(((index + 0.5) / fragments) * side - patch / 2);
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

// Values of the result are whole numbers, SCALED to a level
function scaledPlane({ width, height, values }, newWidth, newHeight) {
  const across = new Int16Array(newWidth * height);
  const columns = cubicFilters(width, newWidth, ACROSS);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      const { first, weights } = columns[x];
      let sum = 0;
      for (let tap = 0, from = y * width + first; tap < weights.length; tap++) sum += weights[tap] * values[from++];
      across[y * newWidth + x] = Math.min(sum >> 7, 32767);
    }
  }
  const result = new Int32Array(newWidth * newHeight);
  cubicFilters(height, newHeight, DOWN).forEach(({ first, weights }, y) => {
    for (let tap = 0; tap < weights.length; tap++) {
      const from = (first + tap) * newWidth;
      for (let x = 0, to = y * newWidth; x < newWidth; x++) result[to++] += weights[tap] * across[from + x];
    }
  });
  return { width: newWidth, height: newHeight, values: result };
}

// FFmpeg's bicubic filters to the last bit (initFilter of libswscale, on x86): Keys' kernel with a = -0.6, widened where
// pictures shrink, in whole numbers; what is nearly nothing at both ends is left out, and the border's pixel goes on beyond it
const known = new Map();
function cubicFilters(size, newSize, direction) {
  const name = `${size} ${newSize} ${direction.one}`;
  if (!known.has(name)) known.set(name, makeCubicFilters(size, newSize, direction));
  return known.get(name);
}

function makeCubicFilters(size, newSize, { one, multiple }) {
  if (size === newSize) return Array.from({ length: size }, (_, first) => ({ first, weights: [one] }));
  const step = Math.floor((size * 65536 + (newSize >> 1)) / newSize);
  const shrinks = step > 65536;
  const width = Math.max(Math.min(1 + (shrinks ? Math.floor((4 * size + newSize - 1) / newSize) : 4), size - 2), 1);
  const unit = 1n << BigInt(54 - Math.min(Math.floor(Math.log2(Math.max(Math.floor(size / newSize), 1))), 8));
  const rows = Array.from({ length: newSize }, (_, index) => {
    const centre = step - 65536 + 2 * step * index;
    const first = Math.trunc((centre - (width - 2) * 65536) / 131072);
    const weights = Array.from({ length: width }, (_, tap) => {
      const distance = BigInt(Math.abs((first + tap) * 131072 - centre)) << 13n;
      return cubic(shrinks ? (distance * BigInt(newSize)) / BigInt(size) : distance) / ((1n << 54n) / unit);
    });
    return { first, weights };
  });
  const longest = Math.max(...rows.map((_, index) => withoutLittle(rows, newSize - 1 - index, unit)));
  const length = Math.ceil(longest / multiple) * multiple;
  for (const row of rows) {
    row.weights = Array.from({ length }, (_, tap) => row.weights[tap] ?? 0n);
    keepInside(row, size);
    row.weights = inSteps(row.weights, one);
  }
  return rows;
}

// Keys' kernel, of a distance in 2 ** 30, times 6 * 2 ** 54
function cubic(distance) {
  const [one, a, fixed] = [2n ** 24n, 10066329n, 2n ** 30n]; // a is 0.6 of one
  if (distance >= 2n * fixed) return 0n;
  const second = (distance * distance) >> 30n;
  const third = (second * distance) >> 30n;
  if (distance < fixed) return (12n * one - 6n * a) * third + (6n * a - 18n * one) * second + 6n * one * fixed;
  return a * (-6n * third + 30n * second - 48n * distance + 24n * fixed);
}

// Moves a filter over what is nearly nothing on its left, and gives the length up to what is nearly nothing on its right
function withoutLittle(rows, index, unit) {
  const { weights } = rows[index];
  const abs = (value) => (value < 0n ? -value : value);
  const isMuch = (sum) => Number(sum) > 0.002 * Number(unit);
  for (let tap = 0, sum = 0n; tap < weights.length; tap++) {
    sum += abs(weights[0]);
    if (isMuch(sum) || (index < rows.length - 1 && rows[index].first >= rows[index + 1].first)) break;
    weights.shift();
    weights.push(0n);
    rows[index].first++;
  }
  let length = weights.length;
  for (let tap = weights.length - 1, sum = 0n; tap > 0; tap--, length--) {
    sum += abs(weights[tap]);
    if (isMuch(sum)) break;
  }
  return length;
}

// Weights of pixels beyond the border become the border's
function keepInside(row, size) {
  const { weights } = row;
  if (row.first < 0) {
    for (let tap = 1; tap < weights.length; tap++) {
      const weight = weights[tap];
      weights[tap] = 0n;
      weights[Math.max(tap + row.first, 0)] += weight;
    }
    row.first = 0;
  }
  const beyond = row.first + weights.length - size;
  if (beyond > 0) {
    const outside = weights.splice(weights.length - beyond).reduce((sum, weight) => sum + weight, 0n);
    weights.unshift(...Array.from({ length: beyond }, () => 0n));
    row.first -= beyond;
    weights[size - 1 - row.first] += outside;
  }
}

// Weights as whole numbers whose sum is `one`: what rounding leaves goes to the next
function inSteps(weights, one) {
  const total = weights.reduce((sum, weight) => sum + weight, 0n);
  const step = (total + BigInt(one) / 2n) / BigInt(one);
  let left = 0n;
  return Int16Array.from(weights, (weight) => {
    const value = weight + left;
    const rounded = (value >= 0n ? value + (step >> 1n) : value - (step >> 1n)) / step;
    left = value - rounded * step;
    return Number(rounded);
  });
}

/**
 * A function that writes the pixel (x, y) as RGB, in one of three ways of FFmpeg's, which round differently: by up to two
 * levels, which a model that looks for compression sees.
 */
function converter({ matrix, isFullRange }, [luma, u, v], isKept) {
  const [black, gain] = isFullRange ? [0, 1] : [16, 255 / 219];
  const inLimitedRange = MATRICES[matrix] ?? MATRICES[DEFAULT_MATRIX];
  const weights = isFullRange ? inLimitedRange.map((weight) => Math.floor((weight * 224) / 255)) : inLimitedRange;
  const [ofRed, ofBlue, blueInGreen, redInGreen] = [weights[0], weights[1], -weights[2], -weights[3]];
  const shiftX = luma.width > u.width ? 1 : 0;
  const shiftY = luma.height > u.height ? 1 : 0;
  const { floor } = Math;
  const whole = (value) => (value + SCALED / 2) >> 19;
  const at = (x, y) => (y >> shiftY) * u.width + (x >> shiftX);

  const ofLight = floor(65536 * gain);
  const [lightStep, redStep, blueStep, blueInGreenStep, redInGreenStep] = [ofLight, ofRed, ofBlue, blueInGreen, redInGreen].map(
    (weight) => floor(weight / 8 + 0.5),
  );

  if (isKept) {
    // Each term is rounded down by itself
    const term = (value, weight) => (8 * value * weight) >> 16;
    return (x, y, pixels, to) => {
      const light = term(luma.values[y * luma.width + x] - black, lightStep);
      const [cb, cr] = [u.values[at(x, y)] - 128, v.values[at(x, y)] - 128];
      pixels[to] = clamp(light + term(cr, redStep));
      pixels[to + 1] = clamp(light + term(cb, blueInGreenStep) + term(cr, redInGreenStep));
      pixels[to + 2] = clamp(light + term(cb, blueStep));
    };
  }
  if (shiftX) {
    // Tables: chroma is a number of steps of luma, and luma's table begins somewhat low
    const start = (isFullRange ? 384 : 326) * ofLight - (384 + black) * 65536 + 32768;
    const level = (light) => clamp((start + ofLight * light) >> 16);
    const steps = (weight) => {
      const ofOne = Math.trunc((weight * 65536 + 32768) / ofLight);
      return Int16Array.from({ length: 256 }, (_, chroma) => floor((chroma * ofOne) / 65536) - (ofOne >> 9));
    };
    const [toRed, toBlue, redToGreen, blueToGreen] = [ofRed, ofBlue, redInGreen, blueInGreen].map(steps);
    return (x, y, pixels, to) => {
      const light = whole(luma.values[y * luma.width + x]);
      const [cb, cr] = [clamp(whole(u.values[at(x, y)])), clamp(whole(v.values[at(x, y)]))];
      pixels[to] = level(light + toRed[cr]);
      pixels[to + 1] = level(light + blueToGreen[cb] + redToGreen[cr]);
      pixels[to + 2] = level(light + toBlue[cb]);
    };
  }
  // In 9 bits below a level
  const fine = (value) => (value + 512) >> 10;
  const level = (value) => clamp(floor(value / 2 ** 22));
  return (x, y, pixels, to) => {
    const light = (fine(luma.values[y * luma.width + x]) - black * 512) * lightStep + 2 ** 21;
    const [cb, cr] = [fine(u.values[at(x, y)] - 128 * SCALED), fine(v.values[at(x, y)] - 128 * SCALED)];
    pixels[to] = level(light + cr * redStep);
    pixels[to + 1] = level(light + cr * redInGreenStep + cb * blueInGreenStep);
    pixels[to + 2] = level(light + cb * blueStep);
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
