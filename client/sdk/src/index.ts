/**
 * Push-to-talk in a browser.
 *
 *     const client = connect("wss://example.org/ws", token);
 *     client.on("speaker", ({ speaker }) => show(speaker?.userName));
 *     const lobby = client.join("lobby");
 *     button.onpointerdown = () => lobby.hold();
 *     button.onpointerup = () => lobby.release();
 */
export { connect, VoiceClient, type ClientOptions, type TokenSource } from "./client.ts";
export type { Channel, JoinState, Speaker } from "./channel.ts";
export type { TalkEnd, TalkState } from "./talk.ts";
export type { ConnectionState, Events } from "./events.ts";
export { ConnectionEnd, RequestError, type EndCode } from "./errors.ts";
export type { AudioPathState } from "./media.ts";
export type { MicrophoneSource, MicrophoneState } from "./microphone.ts";
export type { Member } from "./protocol.ts";
export { Backoff } from "./backoff.ts";
