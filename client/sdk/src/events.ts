/** Everything that a client tells its page. */
import type { JoinState, Speaker } from "./channel.ts";
import type { EndCode } from "./errors.ts";
import type { AudioPathState } from "./media.ts";
import type { MicrophoneState } from "./microphone.ts";
import type { Member } from "./protocol.ts";
import type { TalkEnd, TalkState } from "./talk.ts";

export type ConnectionState =
  | "connecting"
  | "connected"
  | "reconnecting" // channels that are still `joined` go on being heard, as long as `audio` is `connected`
  | "stopped";

export interface Events {
  /** The connection to the server; `reason` tells why it ended, `retryInMs` when the next attempt is. */
  connection: { state: ConnectionState; reason?: { code: EndCode; message: string }; retryInMs?: number };
  /** The way of the audio, which may outlive a connection. */
  audio: { state: AudioPathState };
  microphone: { state: MicrophoneState };
  /** The channels that the token names and the person's role, after each connect. */
  channels: { channels: string[]; role: string };
  /** A channel has been joined, refused, or can be spoken on from now on. */
  channel: { channelId: string; state: JoinState; refusal?: string };
  /** Somebody has begun or ended to speak. */
  speaker: { channelId: string; speaker: Speaker | null };
  /** Who is there. `complete`: everybody is named; of more than a hundred nobody is. */
  members: { channelId: string; members: Member[]; userCount: number; complete: boolean };
  /** Our own press. */
  talk: { channelId: string; state: TalkState; end?: TalkEnd; message?: string };
  /** A press was in vain. `code`: `busy` (somebody speaks), `offline`, `no-microphone`, `timeout`, or the server's. */
  denied: { channelId: string; code: string; message: string; speakerName?: string };
  /** The microphone's loudness, 0 to 1, twenty times a second. */
  level: { level: number };
}
