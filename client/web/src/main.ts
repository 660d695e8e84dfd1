/** Where the page begins: signs in, or takes the last session of this tab, and shows the room until it ends. */
import "./style.css";
import { room } from "./room.ts";
import { settings } from "./settings.ts";
import { developmentSignIn, signIn, tokenFromAddress } from "./signin.ts";

async function main(root: HTMLElement): Promise<void> {
  // Keys keep their focus; a mouse click gives it back, or the space bar would press that button instead of talking.
  document.addEventListener("click", ({ detail }) => {
    const focused = document.activeElement;
    if (detail > 0 && focused instanceof HTMLElement && focused.closest("button, a")) focused.blur();
  });
  let session = tokenFromAddress() ?? settings.session;
  let problem: string | undefined;
  for (;;) {
    session ??= await signIn(root, await developmentSignIn(), problem);
    settings.session = session; // after a reload this tab begins here without asking
    problem = await room(root, session);
    settings.session = session = undefined;
  }
}

const root = document.getElementById("app");
if (root) void main(root);
