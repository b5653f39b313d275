// A server that takes its time: `slow-server.mjs <greetMs> <serveMs>`. It greets each client so long after it has
// connected, and sends each message back so long after it came. Messages are small and one at a time, so that what
// comes together is one message. Tells its parent the port, and ends when the parent does or lets go of it.
import net from 'node:net';

const [greetMs, serveMs] = process.argv.slice(2).map(Number);
const GREETING = Buffer.from('\0\0\0\x05hello');

const server = net.createServer({ noDelay: true }, (socket) => {
  if (greetMs !== undefined && greetMs > 0) setTimeout(() => socket.write(GREETING), greetMs);
  socket.on('data', (chunk) => setTimeout(() => socket.write(chunk), serveMs));
  // A client that gives up resets its sockets; that is no news here.
  socket.on('error', () => socket.destroy());
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('bug: no port');
  process.send?.(address.port);
});
process.on('disconnect', () => process.exit());
