// Plotly charts that follow a run: new points only, zoom kept, smoothing without the server.
//
// distillCharts.live(element, props, server, watch): the Train tab's charts of one run.
// distillCharts.figure(element, props, watch): one Plotly figure given as JSON.
// Colours come from CSS variables, so that both follow light and dark.
(() => {
  const POLL_MS = 2000; // a redraw costs some 50 ms of the machine that trains
  const KEEP = 4000; // points of a series held here; beyond it every second one goes
  const CONFIG = { responsive: true, displaylogo: false, doubleClick: "reset",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "sendChartToCloud"],
    plotlyServerURL: "" };  // a chart is uploaded nowhere
  const QUIET = { ...CONFIG, displayModeBar: false };
  const TERM_COLOURS = { forward_kl: "--student", cross_entropy: "--curve-2", loss: "--ds-muted" };
  const SPARE_COLOURS = ["--curve-3", "--curve-4", "--curve-5"];
  // What tells a probe's arms apart: colour, and where there are points their shape.
  const ARM_LOOKS = [["--student", "diamond", "solid"], ["--curve-2", "circle", "dash"],
    ["--curve-3", "square", "dot"], ["--curve-4", "triangle-up", "dashdot"]];

  const colour = (name) =>
    getComputedStyle(document.body).getPropertyValue(name).trim() || "#7a8594";
  // A figure made on the server names its colours as var(--name).
  const resolved = (value) => {
    if (typeof value === "string") return value.replace(/var\((--[\w-]+)\)/g, (_, n) => colour(n));
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    return value;
  };
  const last = (values) => values[values.length - 1];
  const escapeHtml = (text) =>
    String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

  function number(value, unit) {
    if (value === undefined || value === null || !Number.isFinite(value)) return "–";
    if (unit === "0–1") return `${(100 * value).toFixed(1)} %`;
    if (unit === "bytes") return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(2)} GiB`
      : `${(value / 2 ** 20).toFixed(0)} MiB`;
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    if (size !== 0 && size < 0.001) return value.toExponential(1);
    return Number(value.toPrecision(3)).toString();
  }

  function axis(extra) {
    return { gridcolor: colour("--ds-grid"), zerolinecolor: colour("--ds-grid"),
      linecolor: colour("--ds-line"), tickfont: { color: colour("--ds-muted"), size: 11 },
      automargin: true, ...extra };
  }
  function layoutOf(extra) {
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "inherit", color: colour("--ds-ink"), size: 12 },
      margin: { l: 44, r: 10, t: 10, b: 30 }, showlegend: false, hovermode: "x unified",
      hoverlabel: { bgcolor: colour("--ds-card"), bordercolor: colour("--ds-line"),
        font: { color: colour("--ds-ink") } }, ...extra };
  }

  // A range that holds all values with some room: two points alike are not blown up to the brink.
  function wideEnough(values, room) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low > high) return undefined;
    const missing = Math.max(0, room * Math.abs(high || 1) - (high - low)) / 2;
    return missing ? [low - missing, high + missing] : undefined;
  }

  // Draws what has changed since the last time, and nothing where there is nothing to draw.
  function redraw(spot, traces, layout, config) {
    const mark = JSON.stringify([traces, layout, spot.clientWidth]);
    if (spot.distillMark === mark) return;
    spot.distillMark = mark;
    if (traces.length) window.Plotly.react(spot, traces, layout, config);
    else if (spot.classList.contains("js-plotly-plot")) window.Plotly.purge(spot);
  }

  function fitPlots(element) {
    for (const plot of element.querySelectorAll(".js-plotly-plot"))
      if (plot.offsetParent !== null) window.Plotly.Plots.resize(plot);
  }

  // Plotly puts a trace's uid into a selector.
  const uidOf = (text) => text.replace(/[^\w-]/g, "-");

  // Exponential moving average, corrected for its start; 0 leaves the values as they are.
  function smooth(values, strength) {
    if (!strength) return values;
    let mean = 0;
    let weight = 0;
    return values.map((value) => {
      mean = strength * mean + (1 - strength) * value;
      weight = strength * weight + (1 - strength);
      return mean / weight;
    });
  }

  // Adds points in the order they were written. A resumed run writes some steps again: what was
  // there from that step on is replaced.
  function append(series, step, value) {
    for (let i = 0; i < step.length; i += 1) {
      if (!Number.isFinite(value[i])) continue;
      while (series.step.length && series.step[series.step.length - 1] >= step[i]) {
        series.step.pop();
        series.value.pop();
      }
      series.step.push(step[i]);
      series.value.push(value[i]);
    }
    if (series.step.length > KEEP) {
      const last = series.step.length - 1;
      const kept = (_, i) => i % 2 === 0 || i === last;
      series.step = series.step.filter(kept);
      series.value = series.value.filter(kept);
    }
  }

  // Where each stage begins on the common axis. A baseline repeats the student's stage on labels
  // alone, so it starts where that stage starts: the two can be read against each other. So does
  // every arm of a probe, with every seed.
  function offsets(stages) {
    const starts = {};
    let last = 0;
    for (const arm of arms(stages))
      for (const own of arm.runs) {
        let next = 0;
        for (const stage of own) {
          starts[stage.index] = next;
          last = next;
          next += stage.total_steps || 0;
        }
      }
    for (const stage of stages) if (stage.baseline) starts[stage.index] = last;
    return starts;
  }

  // What is drawn apart: of a probe each arm, trained once a seed; else one without a name.
  function arms(stages) {
    const found = new Map();
    for (const stage of stages) {
      if (stage.baseline) continue;
      const runs = found.get(stage.arm || "") || new Map();
      found.set(stage.arm || "", runs.set(stage.seed, [...(runs.get(stage.seed) || []), stage]));
    }
    return [...found].map(([name, runs], place) => {
      const [ink, symbol, dash] = ARM_LOOKS[place % ARM_LOOKS.length];
      return { name, runs: [...runs.values()], ink, symbol, dash };
    });
  }

  class LiveCharts {
    constructor(element, props, server) {
      this.element = element;
      this.props = props;
      this.server = server;
      this.find = (name) => element.querySelector(`[data-part="${name}"]`);
      this.hidden = new Set();
      this.busy = false;
      this.reset();
      for (const name of ["smoothing", "log", "terms"])
        this.find(name).addEventListener("input", () => this.draw());
      this.find("legend").addEventListener("click", (event) => this.toggle(event));
      this.timer = setInterval(() => this.poll(), POLL_MS);
      if (window.distillFrame) window.distillFrame.onThemeChange(() => this.draw());
      // A chart drawn while its tab is closed has no width: fit it when it is seen.
      new ResizeObserver(() => this.fit()).observe(element);
      this.poll();
    }

    fit() {
      if (this.element.offsetParent === null) return;
      this.draw();
      fitPlots(this.element);
      this.poll();
    }

    run() {
      return (this.props.value && this.props.value.run) || "";
    }

    reset() {
      this.shown = this.run();
      this.offset = 0;
      this.series = {};
      this.facts = { stages: [], metrics: {} };
      this.drawn = "";
      this.say(this.shown ? "Reading the curves…" : "");
    }

    async poll() {
      if (!this.element.isConnected) return clearInterval(this.timer);
      if (this.busy || document.hidden || this.element.offsetParent === null) return;
      if (this.run() !== this.shown) this.reset();
      if (!this.shown) return;
      const asked = this.shown;
      this.busy = true;
      try {
        const answer = await this.server.points({ run: asked, since: this.offset });
        if (!answer) throw new Error("no answer");  // so Gradio tells of an app that is away
        if (asked === this.run()) this.take(answer);
      } catch (error) {
        this.say(/401|unauthori[sz]ed/i.test(String(error))
          ? "Your login has ended: reload the page and log in again. Training goes on."
          : "The app does not answer. It is asked again; training goes on.");
      } finally {
        this.busy = false;
      }
    }

    take(answer) {
      if (answer.error) return this.say(answer.error);
      this.say("");
      this.facts = answer.facts;
      this.offset = answer.offset;
      this.forgetSuperseded(answer.series);
      for (const [key, points] of Object.entries(answer.series)) {
        this.series[key] = this.series[key] || { step: [], value: [] };
        append(this.series[key], points.step, points.value);
      }
      const mark = JSON.stringify([this.shown, this.offset, this.facts,
        this.element.clientWidth > 0]);
      if (mark !== this.drawn) {
        this.drawn = mark;
        this.draw();
      }
    }

    // When a stage goes back to a checkpoint, what later stages had is void.
    forgetSuperseded(incoming) {
      for (const [key, points] of Object.entries(incoming)) {
        const known = this.series[key];
        if (!known || !points.step.length || !known.step.length) continue;
        if (points.step[0] > known.step[known.step.length - 1]) continue;
        const stage = Number(key.split("/")[0]);
        for (const other of Object.keys(this.series))
          if (Number(other.split("/")[0]) > stage) delete this.series[other];
      }
    }

    say(words) {
      const line = this.find("notice");
      if (line.textContent !== words) line.textContent = words;
    }

    // Points of a metric for one stage, on the common axis.
    points(stage, metric) {
      const series = this.series[`${stage.index}/${metric}`];
      if (!series || !series.step.length) return null;
      const start = offsets(this.facts.stages)[stage.index] || 0;
      return { x: series.step.map((step) => step + start), y: series.value };
    }

    // Stages as one curve, with a gap between them.
    joined(metric, stages) {
      const curve = { x: [], y: [] };
      for (const stage of stages) {
        const points = this.points(stage, metric);
        if (!points) continue;
        if (curve.x.length) {
          curve.x.push(points.x[0]);
          curve.y.push(NaN);
        }
        curve.x.push(...points.x);
        curve.y.push(...points.y);
      }
      return curve.x.length ? curve : null;
    }

    // A curve each time that an arm is trained.
    lines(metric, arm) {
      return arm.runs.map((own) => this.joined(metric, own)).filter(Boolean);
    }

    baseline(metric) {
      return this.joined(metric, this.facts.stages.filter((stage) => stage.baseline));
    }

    // The stage, baselines left out, that has told a metric last.
    newest(metric) {
      const told = this.main().filter((stage) => this.points(stage, metric));
      return told[told.length - 1];
    }

    // A metric's last value, baselines left out; beside a probe's stage that of the same stage.
    now(metric, beside) {
      const stage = beside && beside.arm ? beside : this.newest(metric);
      const points = stage && this.points(stage, metric);
      return points ? last(points.y) : undefined;
    }

    probes() {
      return this.facts.stages.some((stage) => stage.arm);
    }

    title(metric) {
      const facts = this.facts.metrics[metric];
      return facts ? facts.title : metric.replace(/_/g, " ");
    }

    // The loss chart's curves: each loss term raw, weighted or both, its held-out twin dashed,
    // the baseline dotted. Of a probe a colour is an arm, and dots are its second term.
    curves() {
      const names = new Set(Object.keys(this.series).map((key) => key.split("/")[1]));
      const weighted = [...names].filter((name) => name.startsWith("weighted_"))
      .map((name) => name.slice("weighted_".length));
    const terms = [...new Set([...this.facts.terms, ...weighted])]
      .filter((term) => names.has(term) || names.has(`held_out_${term}`));
      const mode = this.find("terms").value;
      const list = [];
      for (const arm of arms(this.facts.stages)) {
        let spare = 0;
        const add = (key, title, looks) => list.push({ key, arm, title: arm.name
          ? `${arm.name}: ${title}` : title, ...looks });
        terms.forEach((term, nth) => {
          const own = TERM_COLOURS[term] || SPARE_COLOURS[spare++ % SPARE_COLOURS.length];
          const ink = arm.name ? arm.ink : own;
          const dotted = arm.name && nth > 0;
          const title = this.title(term);
          if (mode !== "weighted")
            add(term, title, { ink, dash: dotted ? "dot" : "solid", width: 2.2, train: true });
          if (mode !== "raw")
            add(`weighted_${term}`, `${title} × weight`, { ink, dash: "longdash", width: 1.6,
              train: true });
          if (mode !== "weighted")
            add(`held_out_${term}`, `held-out ${title}`, { ink, dash: dotted ? "dashdot" : "dash",
              width: 2, marks: true });
        });
        if (mode !== "raw" && names.has("loss"))
          add("loss", "sum", { ink: arm.name ? arm.ink : "--ds-ink", dash: "solid", width: 1.6,
            train: true });
      }
      for (const metric of ["cross_entropy", "held_out_cross_entropy"])
        if (mode !== "weighted")
          list.push({ key: metric, title: `baseline, ${this.title(metric)}`, ink: "--other",
            dash: metric === "cross_entropy" ? "dot" : "dashdot", width: 1.8, baseline: true,
            train: metric === "cross_entropy" });
      return list
        .map((curve) => ({ ...curve,
          id: (curve.baseline ? "baseline/" : curve.arm.name && `${curve.arm.name}/`) + curve.key,
          lines: curve.baseline ? [this.baseline(curve.key)].filter(Boolean)
            : this.lines(curve.key, curve.arm) }))
        .filter((curve) => curve.lines.length);
    }

    draw() {
      if (!window.Plotly || this.element.offsetParent === null || !this.facts.terms) return;
      const curves = this.curves();
      this.find("root").classList.toggle("ds-no-curves", curves.length === 0);
      this.drawLoss(curves);
      this.drawLegend(curves);
      this.drawHeldOut();
      for (const card of this.element.querySelectorAll("[data-metric]")) this.drawSmall(card);
    }

    drawLoss(curves) {
      const strength = Number(this.find("smoothing").value);
      const log = this.find("log").checked;
      this.find("smoothing-value").textContent = strength ? strength.toFixed(2) : "off";
      const traces = [];
      for (const curve of curves) {
        if (this.hidden.has(curve.id)) continue;
        const several = curve.lines.length > 1;
        const line = { color: colour(curve.ink), dash: curve.dash,
          width: several ? 0.6 * curve.width : curve.width };
        const smoothing = curve.train && strength > 0;
        curve.lines.forEach((points, nth) => {
          const base = { x: points.x, name: curve.title, type: "scatter" };
          if (smoothing && !several)
            traces.push({ ...base, y: points.y, mode: "lines", hoverinfo: "skip",
              opacity: 0.25, line: { ...line, dash: "solid", width: 1 },
              uid: uidOf(`${curve.id} raw`) });
          traces.push({ ...base, y: smoothing ? this.smoothed(points.y, strength) : points.y,
            mode: curve.marks ? "lines+markers" : "lines",
            marker: { size: several ? 3 : 5, color: line.color },
            line, uid: uidOf(`${curve.id} ${nth || ""}`), hovertemplate: "%{y:.4g}" });
        });
      }
      const range = log ? undefined : wideEnough(traces.flatMap((trace) => trace.y), 0.1);
      redraw(this.find("loss"), traces, layoutOf({
        uirevision: this.shown, shapes: this.boundaries(), annotations: this.names(),
        margin: { l: 48, r: 10, t: 24, b: 34 },
        xaxis: axis({ title: { text: "step", font: { size: 11 } }, range: this.steps(traces),
          rangemode: "tozero" }),
        yaxis: axis({ type: log ? "log" : "linear", range, uirevision: `${this.shown}/${log}`,
          title: { text: this.unitOf(curves), font: { size: 11 } }, exponentformat: "power" }),
      }), CONFIG);
    }

    // Where a term's weight or temperature moves: what it is now, such as " (weight 0.4, T 1.5)".
    momentOf(curve) {
      const now = [["weight", "weight"], ["temperature", "T"]].flatMap(([setting, word]) => {
        if (curve.baseline) return [];
        const lines = this.lines(`${setting}_${curve.key}`, curve.arm);
        return lines.length ? [`${word} ${number(last(last(lines).y))}`] : [];
      });
      return now.length ? ` (${now.join(", ")})` : "";
    }

    // "nats" where every curve is in nats, else the loss has no one unit.
    unitOf(curves) {
      const units = curves.map((curve) => this.facts.metrics[curve.key.replace("weighted_", "")])
        .map((facts) => (facts ? facts.unit : ""));
      return units.every((unit) => unit.startsWith("nats")) ? "nats" : "loss";
    }

    smoothed(values, strength) {
      const parts = [];
      let part = [];
      for (const value of values) {
        if (Number.isNaN(value)) {
          parts.push(...smooth(part, strength), NaN);
          part = [];
        } else part.push(value);
      }
      return parts.concat(smooth(part, strength));
    }

    // Steps shown: up to the last one told; before the second point all that are to come.
    steps(traces) {
      const longest = Math.max(0, ...traces.flatMap((trace) => trace.x.slice(-1)));
      return longest > 0 ? undefined
        : [0, Math.max(10, ...this.facts.stages.map((stage) => stage.total_steps || 0))];
    }

    main() {
      return this.facts.stages.filter((stage) => !stage.baseline);
    }

    // Where a stage follows another; a probe's begin beside each other.
    boundaries() {
      if (this.probes()) return [];
      const starts = offsets(this.facts.stages);
      return this.main().slice(1).map((stage) => ({ type: "line", yref: "paper", y0: 0, y1: 1,
        x0: starts[stage.index], x1: starts[stage.index],
        line: { color: colour("--ds-muted"), width: 1, dash: "dot" } }));
    }

    names() {
      const starts = offsets(this.facts.stages);
      const main = this.main();
      return main.length < 2 || this.probes() ? [] : main.map((stage) => ({ x: starts[stage.index], y: 1,
        yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false,
        text: escapeHtml(stage.title), font: { size: 11, color: colour("--ds-muted") } }));
    }

    drawLegend(curves) {
      const dashes = { solid: "", longdash: "10 4", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" };
      const html = curves.map((curve) => {
        const newest = last(last(curve.lines).y);
        const on = !this.hidden.has(curve.id);
        return `<button type="button" data-curve="${escapeHtml(curve.id)}" aria-pressed="${on}">`
          + `<svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" `
          + `stroke="var(${curve.ink})" stroke-width="2.4" `
          + `stroke-dasharray="${dashes[curve.dash]}"/></svg>`
          + `${escapeHtml(curve.title + this.momentOf(curve))} <b>${number(newest)}</b></button>`;
      }).join("");
      const legend = this.find("legend");
      if (legend.innerHTML === html) return;
      const focused = legend.contains(document.activeElement)
        && document.activeElement.dataset.curve;
      legend.innerHTML = html;
      if (focused) {
        const again = legend.querySelector(`[data-curve="${CSS.escape(focused)}"]`);
        if (again) again.focus();
      }
    }

    toggle(event) {
      const button = event.target.closest("[data-curve]");
      if (!button) return;
      const key = button.dataset.curve;
      if (!this.hidden.delete(key)) this.hidden.add(key);
      this.draw();
    }

    drawHeldOut() {
      const show = (part, words) => {
        const spot = this.find(part);
        if (spot.textContent !== words) spot.textContent = words;
      };
      const score = `held_out_${this.facts.score || "exact_match"}`;
      const baseline = this.baseline(score);
      const newest = this.newest(score);
      const final = this.facts.final || {};
      const teacher = final.teacher ?? this.facts.teacher_score;
      const labelsOnly = final.baseline ?? (baseline && last(baseline.y));
      const rows = (final.rows ?? this.facts.rows_scored) || 0;
      const told = (value) => value !== null && value !== undefined;
      const title = (this.facts.metrics[score] || {}).title || "exact match";
      show("score-title", newest && newest.arm ? `${title}: ${newest.title}` : title);
      show("unit", this.facts.score === "accuracy" ? "of texts" : "of tokens");
      show("exact", number(final.score ?? this.now(score), "0–1"));
      show("agree", number(final.top1_agreement ?? this.now("held_out_top1_agreement", newest), "0–1"));
      show("teacher", told(teacher) ? `● teacher ${number(teacher, "0–1")}` : "");
      show("baseline", told(labelsOnly) && labelsOnly !== false
        ? `○ labels only ${number(labelsOnly, "0–1")}` : "");
      show("rows", !rows ? "" : told(final.rows) ? `final, all ${rows.toLocaleString("en")} rows`
        : `so far, on ${rows.toLocaleString("en")} rows`);
      const traces = [];
      const draw = (lines, { ink, symbol, dash }, name) => lines.forEach((curve, nth) =>
        traces.push({ x: curve.x, y: curve.y, name, type: "scatter", mode: "lines+markers",
          hovertemplate: "%{y:.1%}", uid: uidOf(`${name} ${nth || ""}`), legendgroup: name,
          showlegend: nth === 0, line: { color: colour(ink), width: nth ? 1.4 : 2.2, dash },
          marker: { symbol, size: 7, color: colour(ink) } }));
      draw(baseline ? [baseline] : [], { ink: "--other", symbol: "circle-open", dash: "dot" },
        "labels only");
      for (const arm of arms(this.facts.stages))
        draw(this.lines(score, arm), arm, arm.name || "student");
      const teacherLine = this.facts.teacher_score ?? teacher;
      const shapes = Number.isFinite(teacherLine) ? [{ type: "line", xref: "paper", x0: 0, x1: 1,
        y0: teacherLine, y1: teacherLine, line: { color: colour("--teacher"), width: 1.6, dash: "dash" },
      }] : [];
      redraw(this.find("held-out"), traces, layoutOf({ shapes,
        uirevision: this.shown, margin: { l: 40, r: 10, t: 8, b: 30 },
        showlegend: this.probes(),
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: axis({ range: this.steps(traces), rangemode: "tozero" }),
        yaxis: axis({ range: [0, 1.03], tickformat: ".0%" }) }), QUIET);
    }

    drawSmall(card) {
      const metric = card.dataset.metric;
      const baseline = this.baseline(metric);
      const newest = this.facts.baseline_now && baseline ? last(baseline.y) : this.now(metric);
      const facts = this.facts.metrics[metric] || {};
      const scale = facts.unit === "bytes" ? 2 ** -20 : 1;
      const scaled = (values) => (scale === 1 ? values : values.map((v) => v * scale));
      const value = card.querySelector("b");
      const words = number(newest, facts.unit);
      if (value.textContent !== words) value.textContent = words;
      const traces = [];
      if (baseline) traces.push({ x: baseline.x, y: scaled(baseline.y), type: "scatter", mode: "lines",
        name: "baseline", uid: "baseline",
        line: { color: colour("--other"), width: 1.3, dash: "dot" } });
      for (const arm of arms(this.facts.stages))
        this.lines(metric, arm).forEach((line, nth) => traces.push({ x: line.x,
          y: scaled(line.y), type: "scatter", mode: "lines", name: arm.name || "student",
          uid: uidOf(`${arm.name} ${nth}`), line: { color: colour(arm.ink),
            width: nth ? 1 : 1.8 } }));
      redraw(card.querySelector(".ds-plot"), traces, layoutOf({
        uirevision: this.shown, margin: { l: 34, r: 6, t: 6, b: 20 }, shapes: this.boundaries(),
        xaxis: axis({ nticks: 3, showgrid: false, range: this.steps(traces),
          rangemode: "tozero" }),
        yaxis: axis({ nticks: 3, rangemode: "tozero", exponentformat: "SI",
          ticksuffix: scale === 1 ? "" : " MiB" }) }), QUIET);
    }
  }

  function figure(element, props, watch) {
    const draw = () => {
      const spot = element.querySelector(".ds-plot");
      const value = props.value;
      if (!spot || !element.isConnected || element.offsetParent === null) return;
      spot.style.display = value && value.data ? "" : "none";
      if (!value || !value.data) return;
      const own = resolved(value.layout || {});
      const merged = layoutOf(own);
      merged.xaxis = axis(own.xaxis);
      merged.yaxis = axis(own.yaxis);
      window.Plotly.react(spot, resolved(value.data), merged, CONFIG);
    };
    watch("value", draw);
    if (window.distillFrame) window.distillFrame.onThemeChange(draw);
    new ResizeObserver(() => {
      draw();
      fitPlots(element);
    }).observe(element);
    draw();
  }

  window.distillCharts = {
    live: (element, props, server, watch) => {
      const charts = new LiveCharts(element, props, server);
      watch("value", () => charts.poll());
    },
    figure,
  };
})();
