// Times, sizes and figures as a person reads them.

export function ago(text) {
  if (!text) return "never";
  const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  if (seconds < 60) return Math.floor(seconds) + " s ago";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h ago";
  return new Date(text).toLocaleDateString();
}

export function span(seconds) {
  if (seconds < 60) return seconds.toFixed(1) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min " + Math.floor(seconds % 60) + " s";
  return (seconds / 3600).toFixed(2) + " h";
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "?";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (bytes >= 1024 && at < units.length - 1) { bytes /= 1024; at += 1; }
  return (at && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[at];
}

export function figure(value, digits) {
  if (typeof value !== "number") return "–";
  return value && Math.abs(value) < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}

/** CYXWIZ with as many decimals as a glance takes in; cut, for nobody has what rounding adds. */
export const amount = (text) => text.replace(text.startsWith("0.") ? /(\.\d{4})\d+$/ : /(\.\d{2})\d+$/, "$1");

export const percent = (value) => (typeof value === "number" ? (value * 100).toFixed(1) + " %" : "–");
