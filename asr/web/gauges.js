// What a stream costs, against its budget.

const GAUGES = [
  { key: "rtf", name: "Real-time factor", scale: 1, digits: 3, unit: "", note: "compute time per audio" },
  { key: "latency_ms", name: "Latency", scale: 2000, digits: 0, unit: " ms", note: "sound to text, p95" },
  { key: "memory_mb", name: "Memory", scale: 500, digits: 0, unit: " MB", note: "of the server" },
];

export class Gauges {
  constructor(parent) {
    this.parts = GAUGES.map((gauge) => {
      const element = document.createElement("div");
      element.className = "gauge";
      const [list, term, value] = ["dl", "dt", "dd"].map((tag) => document.createElement(tag));
      const [bar, fill] = ["div", "div"].map((tag) => document.createElement(tag));
      const note = document.createElement("small");
      term.textContent = gauge.name;
      value.textContent = "–";
      note.textContent = gauge.note;
      bar.className = "bar";
      bar.setAttribute("role", "meter");
      bar.setAttribute("aria-label", gauge.name);
      bar.setAttribute("aria-valuemin", "0");
      list.append(term, value);
      bar.append(fill);
      element.append(list, bar, note);
      parent.append(element);
      return { gauge, element, value, bar, fill, note };
    });
    this.show({ budget: {} });
  }

  /** Shows the `status` of a message. */
  show(status) {
    for (const { gauge, element, value, bar, fill, note } of this.parts) {
      const found = status[gauge.key];
      const budget = status.budget[gauge.key] ?? null;
      const limit = budget ?? gauge.scale;
      const text = found === undefined ? "–" : `${found.toFixed(gauge.digits)}${gauge.unit}`;
      const noted = budget === null ? gauge.note : `budget ${budget}${gauge.unit}; ${gauge.note}`;
      value.textContent = text;
      note.textContent = noted;
      bar.setAttribute("aria-valuemax", String(limit));
      bar.setAttribute("aria-valuenow", String(Math.min(found ?? 0, limit)));
      bar.setAttribute("aria-valuetext", `${text}, ${noted}`);
      fill.style.width = `${Math.min(100, (100 * (found ?? 0)) / limit)}%`;
      element.classList.toggle("alarm", budget !== null && found > budget);
    }
  }
}
