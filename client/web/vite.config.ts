import { defineConfig } from "vite";

// Where `npm run dev` finds a running server; the built page is served by the server itself.
const server = "http://127.0.0.1:3000";

export default defineConfig({
  base: "./",
  build: { target: "es2022" },
  server: { proxy: { "/ws": { target: server, ws: true }, "/dev": server } },
});
