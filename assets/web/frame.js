// The window's own behaviour: light or dark, the sidebar on narrow screens, arrow keys in choices.
(() => {
  const KEY = "ds-theme";
  const dark = () => document.body.classList.contains("dark");
  const wanted = () => localStorage.getItem(KEY);

  function apply(mode) {
    document.body.classList.toggle("dark", mode === "dark");
    document.documentElement.style.colorScheme = mode;
  }

  // The system's choice holds until the reader makes one; then theirs, here and after a reload.
  function enforce() {
    const mode = wanted();
    if (mode && (mode === "dark") !== dark()) apply(mode);
  }

  function closeSidebarOnPhones() {
    if (window.innerWidth > 768) return;
    const button = document.querySelector(".sidebar.open .toggle-button");
    if (button) button.click();
  }

  // Charts open at once when their script is here before their tab is.
  function fetchPlotlyEarly() {
    const head = [...(window.gradio_config?.components || [])]
      .map((component) => component.props?.head || "")
      .find((text) => text.includes("plotly.min.js"));
    const address = head && /src="(studio\/plotly\.min\.js[^"]*)"/.exec(head);
    if (!address) return;
    const link = document.createElement("link");
    Object.assign(link, { rel: "prefetch", as: "script", href: address[1] });
    document.head.appendChild(link);
  }

  // Gradio gives every radio of a choice a name of its own, so arrow keys do nothing by themselves.
  const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
  document.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const group = step && event.target.matches?.("input[type=radio]") && event.target.closest("fieldset");
    if (!group) return;
    const choices = [...group.querySelectorAll("input[type=radio]:not(:disabled)")];
    const next = choices[(choices.indexOf(event.target) + step + choices.length) % choices.length];
    if (next.name === event.target.name) return;
    event.preventDefault();
    next.focus();
    next.click();
  });

  window.distillFrame = {
    toggleTheme() {
      const mode = dark() ? "light" : "dark";
      localStorage.setItem(KEY, mode);
      apply(mode);
    },
    onThemeChange(callback) {
      new MutationObserver(callback).observe(document.body, {
        attributes: true,
        attributeFilter: ["class"],
      });
    },
    started() {
      enforce();
      closeSidebarOnPhones();
      fetchPlotlyEarly();
    },
  };
  enforce();
  new MutationObserver(enforce).observe(document.body, {
    attributes: true,
    attributeFilter: ["class"],
  });
})();
