// The temperature explorable. In: `props.value`, JSON {prompt, answer, positions: [{token,
// candidates: [{text, logit}], rest_logits}]}. Everything is computed here; no server call.
const LOW = 0.25, HIGH = 8, SHOWN = 8;
const VISIBLE = { "\n": "⏎", "\t": "⇥", "\r": "␍" };
const seen = (text) => [...text].map((c) => VISIBLE[c] ?? c).join("") || "∅";
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const percent = (p) =>
  p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.00095 ? `${(100 * p).toFixed(1)} %`
    : p >= 1e-6 ? `${(100 * p).toPrecision(1).replace(/e.*/, (e) => e)} %` : "≈ 0 %";

// Softmax over every token of the vocabulary at temperature t; returns candidates, rest, entropy.
const soften = (position, t) => {
  const logits = [...position.candidates.map((c) => c.logit), ...position.rest_logits];
  const top = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - top) / t));
  const total = weights.reduce((sum, w) => sum + w, 0);
  const all = weights.map((w) => w / total);
  const entropy = all.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
  const candidates = all.slice(0, position.candidates.length);
  return { candidates, entropy, rest: 1 - candidates.slice(0, SHOWN).reduce((s, p) => s + p, 0) };
};

const draw = (root, example) => {
  // The position that shows most: the runner-up is there, and easily overlooked.
  const runnersUp = example.positions.map((position) => soften(position, 1).candidates[1]);
  const hidden = runnersUp.map((p) => (p <= 0.1 ? p : -p));
  let at = hidden.indexOf(Math.max(...hidden));
  // Start where the runner-up can be seen: the picture makes its point before anyone drags.
  let t = [1.5, 2, 3].find((value) => soften(example.positions[at], value).candidates[1] > 0.08) ?? 2;

  const tokens = example.positions.map((position, index) => {
    const button = make("button", { type: "button", class: "ds-learn-token" }, seen(position.token));
    button.addEventListener("click", () => { at = index; update(); });
    return button;
  });
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.005, id: "ds-temperature-range" });
  // Equal steps of the slider are equal factors: T = 1 lies near the middle.
  const toSlider = (value) => Math.log(value / LOW) / Math.log(HIGH / LOW);
  slider.value = toSlider(t);
  slider.addEventListener("input", () => {
    t = LOW * Math.pow(HIGH / LOW, Number(slider.value));
    if (Math.abs(t - 1) < 0.04) t = 1;
    update();
  });
  const label = make("label", { for: "ds-temperature-range" });
  const quick = [["T = 1, as it answers", 1], ["T = 2", 2], ["T = 4", 4]].map(([words, value]) => {
    const button = make("button", { type: "button", class: "ds-small-button" }, words);
    button.addEventListener("click", () => { t = value; slider.value = toSlider(t); update(); });
    return button;
  });
  const bars = make("div", { class: "ds-learn-bars" });
  const note = make("p", { class: "ds-learn-note" });
  const facts = make("dl", { class: "ds-learn-facts" });
  root.replaceChildren(
    make("p", { class: "ds-learn-prompt" }, make("b", {}, "Asked: "), example.prompt),
    make("div", { class: "ds-learn-answer", role: "group", "aria-label": "Choose a token of the answer" },
      make("b", {}, "Answered: "), ...tokens),
    make("div", { class: "ds-learn-control" }, label, slider, make("div", { class: "ds-learn-quick" }, ...quick)),
    bars, note, facts,
  );

  function update() {
    const position = example.positions[at];
    const now = soften(position, t), plain = soften(position, 1);
    tokens.forEach((button, index) => button.setAttribute("aria-pressed", String(index === at)));
    label.replaceChildren("Temperature ", make("output", {}, `T = ${t.toFixed(2)}`));
    slider.setAttribute("aria-valuetext", `temperature ${t.toFixed(2)}`);
    const rows = position.candidates.slice(0, SHOWN).map((candidate, index) => row(
      seen(candidate.text), index === 0 ? 1 : 0, plain.candidates[index], now.candidates[index]));
    rows.push(row("all others", 0, plain.rest, now.rest));
    bars.replaceChildren(make("div", { class: "ds-learn-head" }, make("span", {}, "token"),
      make("span", {}, "hard label"), make("span", {}, `soft target at T = ${t.toFixed(2)}`)), ...rows);
    const second = position.candidates[1], third = position.candidates[Math.min(7, position.candidates.length - 1)];
    const ratio = Math.exp(second.logit - third.logit);
    const times = ratio >= 1000 ? ratio.toExponential(0).replace("e+", " × 10^") : ratio.toPrecision(2);
    note.replaceChildren(make("b", {}, "Dark knowledge: "),
      `the label says “${seen(position.candidates[0].text)}” and nothing else. The teacher also holds “`
      + `${seen(second.text)}” to be ${Number(times) ? Number(times).toLocaleString() : times} times as likely as “${seen(third.text)}”. At T = 1 “${seen(second.text)}” gets `
      + `${percent(plain.candidates[1])}, at T = ${t.toFixed(2)} ${percent(now.candidates[1])}: `
      + (Math.abs(t - 1) < 0.02 ? "drag to the right to hear it."
        : now.candidates[1] < plain.candidates[1] ? (t < 1 ? "sharpening hides it." : "its share has gone to those further down.")
          : t > 1 ? "softening makes it loud enough to learn from." : "sharpening leaves little beside the first two."));
    facts.replaceChildren(...fact("Entropy", `${now.entropy.toFixed(2)} nats`, "how open the answer is"),
      ...fact("As open as", `${Math.exp(now.entropy).toFixed(1)} equal candidates`, "e to the entropy"),
      ...fact("The loss is multiplied by T²", `${(t * t).toFixed(2)}`, "because gradients shrink by about 1/T²"));
  }

  function row(text, hard, plain, now) {
    const bar = (p, kind) => make("span", { class: `ds-learn-bar ds-learn-${kind}`, style: `width:${(78 * p).toFixed(2)}%` });
    const soft = make("span", { class: "ds-learn-cell" }, bar(now, "soft"), make("span", {}, percent(now)));
    const ghost = make("i", { class: "ds-learn-ghost", style: `left:${(78 * plain).toFixed(2)}%`, title: `T = 1: ${percent(plain)}` });
    soft.append(ghost);
    return make("div", { class: "ds-learn-row" }, make("code", {}, text),
      make("span", { class: "ds-learn-cell" }, bar(hard, "hard"), make("span", {}, hard ? "100 %" : "0")), soft);
  }

  const fact = (name, value, why) => [make("div", {}, make("dt", {}, name), make("dd", {}, make("b", {}, value), ` ${why}`))];
  update();
};

const show = () => {
  const root = element.querySelector(".ds-explorable");
  if (root && props.value) draw(root, JSON.parse(props.value));
};
watch("value", show);
show();
