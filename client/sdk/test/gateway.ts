/** Gateways of one deployment, as far as one client sees them: sessions with tickets, one channel's floor, media. */
import type { TestContext } from "node:test";
import type { WebSocket as ServerSocket } from "ws";
import { parameters } from "./browser.ts";
import { serve, type TestServer } from "./server.ts";

interface Request {
  type: string;
  id: string;
  data: Record<string, string>;
}

export interface Deployment {
  urls: string[];
  /** Every request, in order, with the gateway that got it. */
  requests: (Request & { gateway: number })[];
  /** Waits for a request that comes from now on. */
  next(type: string): Promise<Request>;
  count(type: string): number;
  /** Sends a push over the newest socket. */
  push(type: string, data: object): void;
  /** Cuts the newest socket without a word, or closes it with a code. */
  cut(code?: number): void;
  /** What is answered to a type; a returned object is merged into the answer. */
  answers: Record<string, (data: Record<string, string>) => object | undefined>;
  /** Who speaks: `self` for the client under test. */
  floor: { holder: "self" | "bob" | null; epoch: number };
  /** The transports that the server still has. */
  transports: Set<string>;
  /** Tickets that would be accepted. */
  tickets: Set<string>;
}

export async function deploy(t: TestContext, { gateways = 1, sessions = true } = {}): Promise<Deployment> {
  let newest: ServerSocket | undefined;
  let ids = 0;
  const waiting: { type: string; found: (request: Request) => void }[] = [];
  const servers: TestServer[] = [];
  const ticket = (): { ticket: string; expiresIn: number } => {
    const ticket = `ticket-${++ids}`;
    deployment.tickets.add(ticket);
    return { ticket, expiresIn: 60_000 };
  };
  const state = (): object => {
    const { holder, epoch } = deployment.floor;
    const userId = holder === "self" ? "alice" : holder;
    return { channelId: "lobby", currentSpeaker: userId, speakerName: userId, isBusy: holder !== null, lockTimestamp: epoch, epoch };
  };
  const deployment: Deployment = {
    urls: [],
    requests: [],
    floor: { holder: null, epoch: 1 },
    transports: new Set(),
    tickets: new Set(),
    next: (type) => new Promise((found) => waiting.push({ type, found })),
    count: (type) => deployment.requests.filter((request) => request.type === type).length,
    push: (type, data) => newest?.send(JSON.stringify({ type, data })),
    cut: (code) => (code === undefined ? newest?.terminate() : newest?.close(code)),
    answers: {
      session: ({ ticket: shown }) => {
        if (!sessions) return { type: "error", error: "Invalid message type", code: "unknown-type" };
        const resumed = shown !== undefined && deployment.tickets.delete(shown);
        if (!resumed) deployment.transports.clear();
        const transports = [...deployment.transports].map((id) => ({ id, direction: "send" }));
        return { data: { sessionId: "s", resumed, transports, ...ticket() } };
      },
      "join-channel": () => ({ data: { channelId: "lobby", state: state(), userCount: 2 } }),
      members: () => ({ data: { members: [{ userId: "bob", userName: "Bob" }] } }),
      "get-router-capabilities": () => ({ data: { routerRtpCapabilities: parameters.router } }),
      "create-transport": () => {
        const transport = { ...parameters.transport(), id: `transport-${++ids}` };
        deployment.transports.add(transport.id);
        return { data: transport };
      },
      consume: () => ({ data: { ...parameters.consumer(), id: `consumer-${++ids}` } }),
      produce: () => ({ data: { id: `producer-${++ids}` } }),
      "ptt-start": () => {
        if (deployment.floor.holder !== "self") deployment.floor = { holder: "self", epoch: deployment.floor.epoch + 1 };
        return { data: { success: true, state: state() } };
      },
      "ptt-stop": () => {
        if (deployment.floor.holder === "self") deployment.floor = { holder: null, epoch: deployment.floor.epoch + 1 };
        return { data: { success: true, state: state() } };
      },
    },
  };
  for (let gateway = 0; gateway < gateways; gateway++) {
    const server = await serve(t, (socket) => {
      newest = socket;
      socket.on("message", (text) => {
        const request = JSON.parse(String(text)) as Request;
        deployment.requests.push({ ...request, gateway });
        for (const waiter of waiting.splice(0)) {
          if (waiter.type === request.type) waiter.found(request);
          else waiting.push(waiter);
        }
        const { type, id, data } = request;
        const answer = type in deployment.answers ? deployment.answers[type]!(data ?? {}) : { data: {} };
        if (answer) socket.send(JSON.stringify({ type, id, ...answer }));
      });
    });
    servers.push(server);
  }
  deployment.urls = servers.map(({ url }) => url);
  return deployment;
}
