// Axes: round ticks, and values in pixels.

/** About `most` round values from low to high, inclusive of none that lie outside. */
function ticks(low, high, most) {
  const raw = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1)
    found.push(k * step);
  return {
    values: found,
    digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)),
  };
}

/** From values to pixels; `from` below `to` in values, in whatever direction in pixels. */
function scale([low, high], [from, to]) {
  const width = high - low || 1;
  return (value) => from + ((value - low) / width) * (to - from);
}

/** The range of values with a little room at both ends. */
function roomy(values, part = 0.04) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = (high - low || Math.abs(high) || 1) * part;
  return [low - room, high + room];
}
