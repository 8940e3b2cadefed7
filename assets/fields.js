// Puts each problem under the field it came from, and offers names to the fields for columns. In:
// `element` with [data-problems], JSON [{slot, severity, text}]; a slot without an element goes to
// the nearest group around it.
const ICONS = { error: "✕", warning: "⚠", info: "i" };
let placed = [];

const problems = () => JSON.parse(element.querySelector("[data-problems]")?.dataset.problems || "[]");

const target = (slot) => {
  for (let id = slot; id.length > "ds-field".length; id = id.slice(0, id.lastIndexOf("-"))) {
    const found = document.getElementById(id);
    if (found) return found;
  }
  return null;
};

const clear = () => {
  for (const { note, input } of placed) {
    note.remove();
    if (input) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
  }
  placed = [];
};

const place = () => {
  clear();
  problems().forEach((problem, index) => {
    const field = target(problem.slot);
    if (!field) return;
    const note = document.createElement("p");
    note.className = `ds-field-problem ds-${problem.severity}`;
    note.id = `ds-problem-${index}`;
    note.textContent = `${ICONS[problem.severity]} ${problem.text}`;
    field.append(note);
    const input = field.querySelector("input, textarea, select");
    if (input) {
      if (problem.severity === "error") input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", note.id);
    }
    placed.push({ note, input, field });
  });
};

// Fields for columns offer the names that the data has (`row_drawn.column_names`).
const offerColumns = () => {
  for (const input of document.querySelectorAll('[id^="ds-field-data-columns-"] input:not([list])')) {
    input.setAttribute("list", "ds-column-names");
    input.setAttribute("autocomplete", "off");
  }
};

watch("value", place);
place();
offerColumns();

// The form is laid out again when the recipe's shape changes: put lost notes back.
let waiting = false;
new MutationObserver(() => {
  offerColumns();
  const wanted = problems().filter((problem) => target(problem.slot)).length;
  const lost = placed.some(({ note }) => !note.isConnected) || wanted > placed.length;
  if (!lost || waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    place();
  }, 60);
}).observe(document.querySelector(".ds-build") || document.body, { childList: true, subtree: true });
