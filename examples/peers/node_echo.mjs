// Node's net module: callbacks on one thread, on libuv.
//
//     node examples/peers/node_echo.mjs 7100
//
// node_server.py starts it, and says so in a sentence where there is no node.

import net from "node:net";

const refusals = {
  EADDRINUSE: "is in use; choose another port",
  EACCES: "needs a permission that this user lacks; choose a port above 1023",
};

function leave(code, sentence) {
  console.error(sentence);
  process.exit(code);
}

const words = process.argv.slice(2);
if (words.length !== 1) leave(2, "one argument is needed, the port: node_echo.mjs 7100");
const port = Number(words[0]);
if (!/^\d+$/.test(words[0]) || port < 1 || port > 65535)
  leave(2, `port ${words[0]} is not a number between 1 and 65535`);

// With allowHalfOpen, what is not yet written survives the end of input.
const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  // Whoever leaves in the middle costs nobody a traceback.
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
});
server.on("error", (error) => {
  if (!(error.code in refusals)) throw error;
  leave(3, `127.0.0.1:${port} ${refusals[error.code]}`);
});
server.listen({ host: "127.0.0.1", port, backlog: 4096 });
