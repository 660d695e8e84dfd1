/** The first screen: who, and where. Knows both ways in: a token, or the server's development sign-in. */
import { ConnectionEnd } from "@voiceping/client";
import { h, icon } from "./dom.ts";
import { parseChannels, settings, type Session } from "./settings.ts";

/** Does the server hand out tokens itself? Only in development. */
export async function developmentSignIn(): Promise<boolean> {
  try {
    return (await fetch("./dev/token", { cache: "no-store" })).status === 204;
  } catch {
    return false;
  }
}

/** A token for a session's name, from the development sign-in. It names no channels, so that more can be joined. */
export async function developmentToken(session: Session): Promise<string> {
  const response = await fetch("./dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userName: session.name, userId: session.userId }),
  });
  if (response.ok) {
    const { token, userId } = (await response.json()) as { token: string; userId: string };
    session.userId = userId; // the same person after a reconnect or a reload
    settings.session = session;
    return token;
  }
  const text = (await response.text()).trim() || `The server refused the sign-in (${response.status})`;
  // What the person typed will not become right by itself; the server's own trouble may pass.
  if (response.status < 500 && response.status !== 429) throw new ConnectionEnd("unauthorized", text);
  throw new Error(text);
}

/**
 * A token given by address, after `#` because that part is never sent or logged. It is taken out of the address at once,
 * so that a copied address gives nothing away.
 */
export function tokenFromAddress(): Session | undefined {
  const values = new URLSearchParams(location.hash.slice(1));
  const token = values.get("token");
  if (!token) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  return { token, channels: parseChannels(values.get("channels") ?? "") };
}

/** Shows the form; resolves when it has been filled in. `problem` is why the person is here again. */
export function signIn(root: HTMLElement, development: boolean, problem?: string): Promise<Session> {
  const name = h("input", { id: "name", required: true, maxLength: 64, autocomplete: "name", value: settings.name });
  const token = h("input", { id: "token", type: "password", required: true, autocomplete: "off", spellcheck: false });
  const channels = h("input", {
    id: "channels",
    required: development,
    maxLength: 500,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: false,
    value: development ? settings.channels : "",
    placeholder: development ? "lobby" : "all that the token names",
  });
  const identity = development ? field("Your name", name) : field("Token", token, "From whoever runs this server.");
  const form = h(
    "form",
    { class: "card signin" },
    h("div", { class: "mark", aria: { hidden: "true" } }, icon("microphone")),
    h("h1", {}, "VoicePing"),
    h("p", { class: "lead" }, "Hold the button, and everybody on the channel hears you."),
    ...(problem ? [h("p", { class: "problem", role: "alert" }, problem)] : []),
    identity,
    field("Channels", channels, "One or more, separated by commas."),
    h("button", { class: "primary", type: "submit" }, "Join"),
    h("p", { class: "hint" }, "Your browser will ask for the microphone. Without one you can listen."),
  );
  root.replaceChildren(form);
  (development ? name : token).focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = parseChannels(channels.value);
      if (!development) return resolve({ token: token.value.trim(), channels: chosen });
      if (!name.value.trim()) return name.focus();
      settings.name = name.value.trim();
      settings.channels = chosen.join(", ");
      resolve({ name: settings.name, channels: chosen });
    });
  });
}

function field(label: string, input: HTMLInputElement, hint?: string): HTMLElement {
  const row = h("div", { class: "field" }, h("label", { htmlFor: input.id }, label), input);
  if (hint) {
    input.setAttribute("aria-describedby", `${input.id}-hint`);
    row.append(h("small", { id: `${input.id}-hint` }, hint));
  }
  return row;
}
