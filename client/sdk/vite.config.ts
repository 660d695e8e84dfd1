import { defineConfig } from "vite";

// The library in one file, for a page without a build of its own; the latency benchmark is one.
export default defineConfig({
  build: {
    target: "es2022",
    lib: { entry: "src/index.ts", formats: ["es"], fileName: "voiceping" },
  },
});
