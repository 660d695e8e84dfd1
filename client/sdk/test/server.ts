/** A real HTTP and WebSocket server whose behaviour each test writes down itself. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { WebSocketServer, type WebSocket as ServerSocket } from "ws";

export interface TestServer {
  url: string;
  /** What each client offered as subprotocols. */
  offered: string[][];
}

export async function serve(
  t: TestContext,
  onsocket: (socket: ServerSocket, request: IncomingMessage) => void,
  refuse?: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<TestServer> {
  const offered: string[][] = [];
  const http = createServer((request, response) => {
    if (refuse) refuse(request, response);
    else response.writeHead(404).end();
  });
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (protocols) => {
      offered.push([...protocols]);
      return "voiceping";
    },
  });
  http.on("upgrade", (request, socket, head) => {
    if (refuse) return void socket.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (ws) => onsocket(ws, request));
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const client of sockets.clients) client.terminate();
    http.closeAllConnections();
    http.close();
  });
  return { url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}/ws`, offered };
}

/** An unsigned token: nothing here checks signatures. */
export function token(userId = "alice", userName = "Alice"): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ userId, userName })}.x`;
}

/** Parses each request and answers what `answer` returns for it; nothing for `undefined`. */
export function answering(
  socket: ServerSocket,
  answer: (request: { type: string; id: string; data?: Record<string, unknown> }) => object | undefined,
): void {
  socket.on("message", (text) => {
    const reply = answer(JSON.parse(String(text)));
    if (reply) socket.send(JSON.stringify(reply));
  });
}
