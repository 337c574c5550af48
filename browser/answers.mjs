// Logits to a result: modeling_lmmvqa/answer_tree_lmmvqa.py for answers of one token, processing/readout_lmmvqa.py.

/** Windows of a video whose chunks start in these seconds, see LmmVqaProcessor.windows. */
export function windowsOf(seconds, mostChunks) {
  const count = Math.ceil(seconds.length / mostChunks);
  const border = (index) => Math.floor((seconds.length * index) / count);
  const time = (index) => (index === count ? seconds.at(-1) + 1 : seconds[border(index)]);
  return Array.from({ length: count }, (_, index) => ({
    firstChunk: border(index),
    endChunk: border(index + 1),
    start: time(index),
    end: time(index + 1),
  }));
}

/** Probabilities of the answers, of logits over the vocabulary. */
export function answerProbabilities(logits, answerIds) {
  const ofAnswers = answerIds.map((id) => logits[id]);
  const highest = Math.max(...ofAnswers);
  const masses = ofAnswers.map((logit) => Math.exp(logit - highest));
  const total = sum(masses);
  return masses.map((mass) => mass / total);
}

/** Probabilities of damage as if all kinds were equally frequent, where it is known how frequent they were in training. */
export function damageShares(probabilities, { damage_frequencies }) {
  if (!damage_frequencies) return probabilities;
  const shares = probabilities.map((mass, kind) => mass / damage_frequencies[kind]);
  const total = sum(shares);
  return shares.map((share) => share / total);
}

/** The distributions of windows, weighted by duration. */
export function mixed(windows, distributions) {
  const duration = windows.at(-1).end - windows[0].start;
  return distributions[0].map((_, answer) =>
    sum(distributions.map((masses, index) => (masses[answer] * (windows[index].end - windows[index].start)) / duration)),
  );
}

/** Score, deviation, level and its probabilities of a distribution over 0 to 100, see ReadoutMixin. */
export function readScore(probabilities, { score_map, score_std_scale, level_thresholds, levels }) {
  const calibrated = (score) => {
    if (!score_map) return score;
    const below = Math.min(Math.floor(score), score_map.length - 2);
    return score_map[below] + (score - below) * (score_map[below + 1] - score_map[below]);
  };
  const mean = sum(probabilities.map((mass, answer) => mass * answer));
  const variance = sum(probabilities.map((mass, answer) => mass * (answer - mean) ** 2));
  const score = calibrated(mean);
  const thresholds = level_thresholds.map(calibrated);
  const levelProbabilities = Object.fromEntries(levels.map((level) => [level, 0]));
  probabilities.forEach((mass, answer) => {
    const offset = (answer - mean) * score_std_scale;
    levelProbabilities[levels[thresholds.filter((threshold) => offset >= threshold - score).length]] += mass;
  });
  return {
    score,
    score_std: Math.sqrt(variance) * score_std_scale,
    level: levels[thresholds.filter((threshold) => score >= threshold).length],
    level_probabilities: levelProbabilities,
  };
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
