// The command that writes the same text in a terminal.

/**
 * Return the `knock generate` command for a prompt and controls, quoted for a POSIX shell.
 * @param {Object} asked
 * @param {string} asked.model name or file of the model
 * @param {string} asked.prompt
 * @param {bigint|number} asked.seed
 * @param {number} asked.length most characters to write
 * @param {Object} asked.controls settings of `knock.sampling`; those left out are off
 * @param {boolean} asked.skips whether the prompt has characters that the model does not know
 * @returns {string}
 */
export function commandFor({ model, prompt, seed, length, controls, skips }) {
  const isEscaped = /[\n\r\t]/.test(prompt);
  const isPiped = prompt === "-"; // as an argument, it stands for standard input
  const isOption = prompt.startsWith("-") && !isPiped;
  const words = [...(isPiped ? ["printf", "%s", "-", "|"] : []), "knock", "generate"];
  if (isEscaped) words.push("--escapes");
  const quoted = inQuotes(isEscaped ? escaped(prompt) : prompt);
  if (!isOption && prompt) words.push(quoted);
  words.push("--model", inQuotes(model), "--seed", String(seed), "--length", String(length));
  for (const [name, value] of Object.entries(withDefaults(controls))) {
    words.push(OPTIONS[name] ?? `--${name.replaceAll("_", "-")}`, String(value));
  }
  if (skips) words.push("--unknown", "skip");
  if (isOption) words.push("--", quoted);
  return words.join(" ");
}

const OPTIONS = { target_entropy: "--entropy" };

/** What `knock generate` does unless it is told otherwise has to be turned off by name. */
function withDefaults(controls) {
  const given = { ...controls };
  if (given.target_entropy === undefined) given.temperature ??= 1;
  given.top_p ??= 1;
  return given;
}

function escaped(text) {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t");
}

function inQuotes(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
