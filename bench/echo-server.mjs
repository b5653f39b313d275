// Sends back what it gets. Tells its parent the port, and ends when the parent does or lets go of it.
import net from 'node:net';

const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on('data', (chunk) => socket.write(chunk));
  // A client that is killed resets its sockets; that is no news here.
  socket.on('error', () => socket.destroy());
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('bug: no port');
  process.send?.(address.port);
});
process.on('disconnect', () => process.exit());
