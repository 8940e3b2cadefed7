// The window's own behaviour: light or dark, the sidebar on narrow screens, the open tab in the
// address, arrow keys in choices.
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

  // The open tab stands in the address: a reload, a bookmark or a link comes back to it.
  const TAB = /^ds-tab-(\w+)-button$/;
  const tabInAddress = () => location.hash.slice(1);

  function openTab(name) {
    const button = /^\w+$/.test(name) && document.getElementById(`ds-tab-${name}-button`);
    if (button && button.getAttribute("aria-selected") !== "true") button.click();
  }

  function followTabs() {
    openTab(tabInAddress());
    window.addEventListener("hashchange", () => openTab(tabInAddress()));
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const tab = TAB.exec(target.id);
        if (tab && target.getAttribute("aria-selected") === "true" && tab[1] !== tabInAddress())
          history.replaceState(history.state, "", `#${tab[1]}`);
      }
    }).observe(document.body, { subtree: true, attributeFilter: ["aria-selected"] });
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
    // Where nobody has chosen a tab.
    suggestTab(name) {
      if (!tabInAddress()) openTab(name);
    },
    started() {
      enforce();
      followTabs();
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
