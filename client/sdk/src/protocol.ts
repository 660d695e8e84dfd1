/**
 * The signaling protocol as types: what goes over the WebSocket, and nothing else. Used by every other file of the
 * library; holds no logic. The reference is `docs/protocol.md`.
 */
import type { types } from "mediasoup-client";

/** Who may speak on a channel, as the server tells it. */
export interface ChannelState {
  channelId: string;
  currentSpeaker: string | null;
  speakerName: string | null;
  isBusy: boolean;
  /** When the floor was taken, in milliseconds since the Unix epoch by the server's clock. */
  lockTimestamp: number | null;
  /** Grows with every change of the channel's floor: what is lower is old news. */
  epoch: number;
}

export interface Member {
  userId: string;
  userName: string;
}

/** Lets a new socket go on with a session, once. */
export interface Ticket {
  ticket: string;
  /** Milliseconds from now. */
  expiresIn: number;
}

/** Why the audio has to move to another media node. */
export type MoveReason =
  | "node-lost" // it is gone: anything else is better
  | "draining"; // it goes on for a while: no hurry, and no gap

export interface TransportParameters {
  id: string;
  iceParameters: types.IceParameters;
  iceCandidates: types.IceCandidate[];
  dtlsParameters: types.DtlsParameters;
  iceServers?: RTCIceServer[];
}

/** Every request: what is sent, and what a success brings back. */
export interface Requests {
  /** Says that this client can resume and be moved; with a ticket, goes on with the session of an earlier socket. */
  session: {
    data: { ticket?: string };
    reply: Ticket & { sessionId: string; resumed: boolean; transports: { id: string; direction: "send" | "recv" }[] };
  };
  "join-channel": {
    data: { channelId: string };
    reply: { channelId: string; state: ChannelState; userCount: number };
  };
  "leave-channel": { data: { channelId: string }; reply: { channelId: string; success: boolean } };
  "get-router-capabilities": {
    data: { channelId: string };
    reply: { routerRtpCapabilities: types.RtpCapabilities };
  };
  "create-transport": {
    data: { channelId: string; direction: "send" | "recv" };
    reply: TransportParameters;
  };
  "connect-transport": {
    data: { transportId: string; dtlsParameters: types.DtlsParameters };
    reply: { success: boolean };
  };
  "restart-ice": { data: { transportId: string }; reply: { iceParameters: types.IceParameters } };
  produce: {
    data: { transportId: string; kind: types.MediaKind; rtpParameters: types.RtpParameters; channelId: string };
    reply: { id: string };
  };
  consume: {
    data: { channelId: string; producerId: string; transportId: string; rtpCapabilities: types.RtpCapabilities };
    reply: { id: string; producerId: string; kind: types.MediaKind; rtpParameters: types.RtpParameters };
  };
  "ptt-start": { data: { channelId: string }; reply: { success: boolean; state: ChannelState } };
  "ptt-stop": { data: { channelId: string }; reply: { success: boolean; state: ChannelState } };
  "pause-consumer": { data: { consumerId: string; paused: boolean }; reply: { success: boolean } };
  /** Goes on with a newer token of the same person. */
  "refresh-token": { data: { token: string }; reply: { expiresIn: number; channels: string[]; role: string } };
  /** `complete: false`: there are too many to be named. */
  members: {
    data: { channelId: string };
    reply: { channelId: string; members: Member[]; userCount?: number; complete?: boolean };
  };
  ping: { data: undefined; reply: unknown };
}

export type RequestType = keyof Requests;

/** A denial of the floor: the answer to a `ptt-start`, or a push when a grant is taken back. */
export interface Denial {
  success: false;
  denied: true;
  channelId: string;
  currentSpeaker?: string | null;
  currentSpeakerName?: string | null;
  message?: string;
}

/** Why a floor became free. */
export type FreeReason = "released" | "left" | "expired" | "talk-limit" | "silent" | "node-failed";

/** Every push that the library understands; others are ignored, so that the server may add some. */
export interface Pushes {
  "channel-list": { channels: string[]; role: string; globalRole: string };
  /** `reason` says why the floor is free. */
  "speaker-changed": ChannelState & { producerId?: string; reason?: FreeReason };
  "channel-state": ChannelState & {
    action: "user-joined" | "user-left" | "user-disconnected";
    userId: string;
    userName: string;
    userCount: number;
    /** Others came or went before, of whom nothing was said. */
    merged?: boolean;
  };
  "ptt-denied": Denial;
  "ptt-interrupted": { channelId: string; interruptedBy?: string; message?: string };
  "force-disconnect": { reason?: string };
  /** A newer ticket for the same session. */
  session: Ticket;
  "media-moved": { reason: MoveReason };
  /** The token is over in so many milliseconds. */
  "token-expiring": { expiresIn: number };
}

export type PushType = keyof Pushes;

/** Everything that can arrive. A response has the id of its request; a push has none. */
export interface Incoming {
  type: string;
  id?: string;
  data?: unknown;
  error?: string;
  code?: string;
}

/** Close codes with a meaning of their own; any other end of a socket is worth another try. */
export const CloseCode = {
  /** Ours: we are done, and the server may forget us at once. */
  Done: 1000,
  /** Ours: this socket is of no use, but we will be back. */
  GaveUp: 4000,
  /** The token ran out: only a new one helps. */
  TokenExpired: 4001,
  /** Removed by a dispatcher or an administrator. */
  Removed: 4003,
} as const;

/** The one stable stream of a channel: whatever the holder of its floor sends. */
export const floorOutput = (channelId: string): string => `floor:${channelId}`;
