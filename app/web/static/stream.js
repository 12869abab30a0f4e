// Asking the API from a page: answers, and streams of server-sent events. What goes wrong is an Error
// whose message is a sentence for people; stopping is the signal's own.

/** What a browser that was signed in sends along, so that other sites cannot ask in its name. */
export function csrf() {
  const token = document.querySelector("meta[name=csrf]")?.content;
  return token ? { "X-CSRF-Token": token } : {};
}

export async function ask(path, body, signal) {
  const response = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json", ...csrf() }, body: JSON.stringify(body), signal,
  }).catch((error) => {
    throw signal.aborted ? error : new Error("The service cannot be reached.");
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  throw new Error(problem?.detail ?? `The service answered with status ${response.status}.`);
}

/** Names and data of a stream's events, as they come; the stream is closed with the last that is taken. */
export async function* events(path, body, signal) {
  const response = await ask(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw signal.aborted ? error : new Error("The connection broke off; try again.");
      });
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const event of blocks.map(parsed)) if (event) yield event;
    }
  } finally {
    reader.cancel().catch(() => {}); // It is closed already where reading failed.
  }
}

/** A block of lines; null for a comment that keeps the connection alive. */
function parsed(block) {
  const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
  return fields.event ? { name: fields.event, data: JSON.parse(fields.data) } : null;
}
