// Tells the server which token of which answer was chosen. In: `element`, `trigger`.
element.addEventListener("click", (event) => {
  const token = event.target.closest("[data-token]");
  if (!token) return;
  for (const other of element.querySelectorAll("[data-token][aria-pressed]")) {
    other.removeAttribute("aria-pressed");
  }
  token.setAttribute("aria-pressed", "true");
  trigger("token", { model: token.dataset.model, index: Number(token.dataset.index) });
});
