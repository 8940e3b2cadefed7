// Plotly charts that follow a run: new points only, zoom kept, smoothing without the server.
//
// distillCharts.live(element, props, server, watch): the Train tab's charts of one run.
// distillCharts.figure(element, props, watch): one Plotly figure given as JSON.
// Colours come from CSS variables, so that both follow light and dark.
(() => {
  const POLL_MS = 1000;
  const KEEP = 4000; // points of a series held here; beyond it every second one goes
  const CONFIG = { responsive: true, displaylogo: false, doubleClick: "reset",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "sendChartToCloud"],
    plotlyServerURL: "" };  // a chart is uploaded nowhere
  const QUIET = { ...CONFIG, displayModeBar: false };
  const TERM_COLOURS = { forward_kl: "--student", cross_entropy: "--curve-2", loss: "--ds-muted" };
  const SPARE_COLOURS = ["--curve-3", "--curve-4", "--curve-5"];

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
  // alone, so it starts where that stage starts: the two can be read against each other.
  function offsets(stages) {
    const starts = {};
    let next = 0;
    let last = 0;
    for (const stage of stages) {
      if (stage.baseline) continue;
      starts[stage.index] = next;
      last = next;
      next += stage.total_steps || 0;
    }
    for (const stage of stages) if (stage.baseline) starts[stage.index] = last;
    return starts;
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
        if (asked === this.run()) this.take(answer);
      } catch (error) {
        this.say(/401|unauthori[sz]ed/i.test(String(error))
          ? "Your login has ended: reload the page and log in again. Training goes on."
          : "The app does not answer. It is asked again every second; training goes on.");
      } finally {
        this.busy = false;
      }
    }

    take(answer) {
      if (!answer || answer.error) {
        return this.say((answer && answer.error) || "The app's answer holds no curves.");
      }
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

    // All non-baseline stages as one curve, with a gap between stages.
    joined(metric, baseline) {
      const curve = { x: [], y: [] };
      for (const stage of this.facts.stages) {
        if (Boolean(stage.baseline) !== baseline) continue;
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

    title(metric) {
      const facts = this.facts.metrics[metric];
      return facts ? facts.title : metric.replace(/_/g, " ");
    }

    // The loss chart's curves: each loss term raw, weighted or both, its held-out twin dashed,
    // the baseline dotted.
    curves() {
      const names = new Set(Object.keys(this.series).map((key) => key.split("/")[1]));
      const weighted = [...names].filter((name) => name.startsWith("weighted_"))
      .map((name) => name.slice("weighted_".length));
    const terms = [...new Set([...this.facts.terms, ...weighted])]
      .filter((term) => names.has(term) || names.has(`held_out_${term}`));
      const mode = this.find("terms").value;
      const list = [];
      let spare = 0;
      for (const term of terms) {
        const ink = TERM_COLOURS[term] || SPARE_COLOURS[spare++ % SPARE_COLOURS.length];
        const title = this.title(term);
        if (mode !== "weighted")
          list.push({ key: term, title, ink, dash: "solid", width: 2.2, train: true });
        if (mode !== "raw")
          list.push({ key: `weighted_${term}`, title: `${title} × weight`, ink, dash: "longdash",
            width: 1.6, train: true });
        if (mode !== "weighted")
          list.push({ key: `held_out_${term}`, title: `held-out ${title}`, ink, dash: "dash",
            width: 2, marks: true });
      }
      if (mode !== "raw" && names.has("loss"))
        list.push({ key: "loss", title: "sum", ink: "--ds-ink", dash: "solid", width: 1.6,
          train: true });
      for (const metric of ["cross_entropy", "held_out_cross_entropy"])
        if (mode !== "weighted")
          list.push({ key: metric, title: `baseline, ${this.title(metric)}`, ink: "--other",
            dash: metric === "cross_entropy" ? "dot" : "dashdot", width: 1.8, baseline: true,
            train: metric === "cross_entropy" });
      return list
        .map((curve) => ({ ...curve, id: (curve.baseline ? "baseline/" : "") + curve.key,
          points: this.joined(curve.key, Boolean(curve.baseline)) }))
        .filter((curve) => curve.points);
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
        const line = { color: colour(curve.ink), dash: curve.dash, width: curve.width };
        const base = { x: curve.points.x, name: curve.title, type: "scatter" };
        const faint = curve.train && strength > 0;
        if (faint)
          traces.push({ ...base, y: curve.points.y, mode: "lines", hoverinfo: "skip",
            opacity: 0.25, line: { ...line, dash: "solid", width: 1 },
            uid: uidOf(`${curve.id} raw`) });
        traces.push({ ...base, y: faint ? this.smoothed(curve.points.y, strength) : curve.points.y,
          mode: curve.marks ? "lines+markers" : "lines", marker: { size: 5, color: line.color },
          line, uid: uidOf(curve.id), hovertemplate: "%{y:.4g}" });
      }
      window.Plotly.react(this.find("loss"), traces, layoutOf({
        uirevision: this.shown, shapes: this.boundaries(), annotations: this.names(),
        margin: { l: 48, r: 10, t: 24, b: 34 },
        xaxis: axis({ title: { text: "step", font: { size: 11 } }, rangemode: "tozero" }),
        yaxis: axis({ type: log ? "log" : "linear", uirevision: `${this.shown}/${log}`,
          title: { text: this.unitOf(curves), font: { size: 11 } }, exponentformat: "power" }),
      }), CONFIG);
    }

    // Where a term's weight or temperature moves: what it is now, such as " (weight 0.4, T 1.5)".
    momentOf(curve) {
      const now = [["weight", "weight"], ["temperature", "T"]].flatMap(([setting, word]) => {
        const points = this.joined(`${setting}_${curve.key}`, false);
        return points ? [`${word} ${number(points.y[points.y.length - 1])}`] : [];
      });
      return now.length && !curve.baseline ? ` (${now.join(", ")})` : "";
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

    main() {
      return this.facts.stages.filter((stage) => !stage.baseline);
    }

    boundaries() {
      const starts = offsets(this.facts.stages);
      return this.main().slice(1).map((stage) => ({ type: "line", yref: "paper", y0: 0, y1: 1,
        x0: starts[stage.index], x1: starts[stage.index],
        line: { color: colour("--ds-muted"), width: 1, dash: "dot" } }));
    }

    names() {
      const starts = offsets(this.facts.stages);
      const main = this.main();
      return main.length < 2 ? [] : main.map((stage) => ({ x: starts[stage.index], y: 1,
        yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false,
        text: escapeHtml(stage.title), font: { size: 11, color: colour("--ds-muted") } }));
    }

    drawLegend(curves) {
      const dashes = { solid: "", longdash: "10 4", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" };
      const html = curves.map((curve) => {
        const last = curve.points.y[curve.points.y.length - 1];
        const on = !this.hidden.has(curve.id);
        return `<button type="button" data-curve="${escapeHtml(curve.id)}" aria-pressed="${on}">`
          + `<svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" `
          + `stroke="var(${curve.ink})" stroke-width="2.4" `
          + `stroke-dasharray="${dashes[curve.dash]}"/></svg>`
          + `${escapeHtml(curve.title + this.momentOf(curve))} <b>${number(last)}</b></button>`;
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
      const last = (curve) => curve && curve.y[curve.y.length - 1];
      const score = `held_out_${this.facts.score || "exact_match"}`;
      const exact = this.joined(score, false);
      const agree = this.joined("held_out_top1_agreement", false);
      const baseline = this.joined(score, true);
      const final = this.facts.final || {};
      const teacher = final.teacher ?? this.facts.teacher_score;
      const labelsOnly = final.baseline ?? last(baseline);
      const rows = (final.rows ?? this.facts.rows_scored) || 0;
      const told = (value) => value !== null && value !== undefined;
      show("score-title", (this.facts.metrics[score] || {}).title || "exact match");
      show("unit", this.facts.score === "accuracy" ? "of texts" : "of tokens");
      show("exact", number(final.score ?? last(exact), "0–1"));
      show("agree", number(final.top1_agreement ?? last(agree), "0–1"));
      show("teacher", told(teacher) ? `● teacher ${number(teacher, "0–1")}` : "");
      show("baseline", told(labelsOnly) && labelsOnly !== false
        ? `○ labels only ${number(labelsOnly, "0–1")}` : "");
      show("rows", !rows ? "" : told(final.rows) ? `final, all ${rows.toLocaleString("en")} rows`
        : `so far, on ${rows.toLocaleString("en")} rows`);
      const traces = [];
      const line = (curve, ink, symbol, dash, name) => curve && traces.push({ x: curve.x,
        y: curve.y, name, type: "scatter", mode: "lines+markers", hovertemplate: "%{y:.1%}",
        line: { color: colour(ink), width: 2.2, dash }, uid: uidOf(name),
        marker: { symbol, size: 7, color: colour(ink) } });
      line(baseline, "--other", "circle-open", "dot", "labels only");
      line(exact, "--student", "diamond", "solid", "student");
      const teacherLine = this.facts.teacher_score ?? teacher;
      const shapes = Number.isFinite(teacherLine) ? [{ type: "line", xref: "paper", x0: 0, x1: 1,
        y0: teacherLine, y1: teacherLine, line: { color: colour("--teacher"), width: 1.6, dash: "dash" },
      }] : [];
      window.Plotly.react(this.find("held-out"), traces, layoutOf({ shapes,
        uirevision: this.shown, margin: { l: 40, r: 10, t: 8, b: 30 },
        xaxis: axis({ rangemode: "tozero" }),
        yaxis: axis({ range: [0, 1.03], tickformat: ".0%" }) }), QUIET);
    }

    drawSmall(card) {
      const metric = card.dataset.metric;
      const main = this.joined(metric, false);
      const baseline = this.joined(metric, true);
      const newest = this.facts.baseline_now && baseline ? baseline : main;
      const facts = this.facts.metrics[metric] || {};
      const scale = facts.unit === "bytes" ? 2 ** -20 : 1;
      const scaled = (values) => (scale === 1 ? values : values.map((v) => v * scale));
      const value = card.querySelector("b");
      const words = number(newest ? newest.y[newest.y.length - 1] : null, facts.unit);
      if (value.textContent !== words) value.textContent = words;
      const traces = [];
      if (baseline) traces.push({ x: baseline.x, y: scaled(baseline.y), type: "scatter", mode: "lines",
        name: "baseline", uid: "baseline",
        line: { color: colour("--other"), width: 1.3, dash: "dot" } });
      if (main) traces.push({ x: main.x, y: scaled(main.y), type: "scatter", mode: "lines",
        name: "student", uid: "main", line: { color: colour("--student"), width: 1.8 } });
      window.Plotly.react(card.querySelector(".ds-plot"), traces, layoutOf({
        uirevision: this.shown, margin: { l: 34, r: 6, t: 6, b: 20 }, shapes: this.boundaries(),
        xaxis: axis({ nticks: 3, showgrid: false, rangemode: "tozero" }),
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
