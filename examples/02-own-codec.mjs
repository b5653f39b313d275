// Your own codec: an object of two functions. This one frames JSON as `<length>#<json>`, for example `7#{"a":1}`.
//
//     node examples/02-own-codec.mjs                          against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/02-own-codec.mjs  against one that adds: {"add":[1,2]} to {"sum":3}
import { createPool } from 'pulsepool';
import { ownServer } from './own-server.mjs';

const MARK = Buffer.from('#');

/** @type {import('pulsepool').Codec<unknown, unknown>} */
const sizedJson = {
  name: 'sized JSON',
  // Enforced by the pool on bytes that wait for decode, so that a wrong length can't fill the memory.
  maxFrameBytes: 64 * 1024,
  encode(message) {
    const json = Buffer.from(JSON.stringify(message));
    return [Buffer.from(`${json.length}#`), json];
  },
  decode(bytes) {
    const mark = bytes.indexOf(MARK);
    // Bytes come as the network likes: half a frame, or three and a half. `undefined` asks for more of them.
    if (mark === -1) return undefined;
    const length = Number(bytes.peek(mark));
    // What can't be right is thrown. It ends this connection, because where the next frame begins is unknown.
    if (!Number.isInteger(length)) throw new Error(`the length is no number: ${bytes.peek(mark)}`);
    if (bytes.length < mark + 1 + length) return undefined;
    bytes.skip(mark + 1);
    return JSON.parse(bytes.take(length).toString());
  },
};

const { host, port, close } = await ownServer((socket) => {
  let rest = '';
  socket.setEncoding('latin1');
  socket.on('data', (/** @type {string} */ text) => {
    rest += text;
    for (let mark = rest.indexOf('#'); mark !== -1; mark = rest.indexOf('#')) {
      const end = mark + 1 + Number(rest.slice(0, mark));
      if (rest.length < end) return;
      const { add } = JSON.parse(rest.slice(mark + 1, end));
      rest = rest.slice(end);
      // Without numbers to add it answers what is no frame, to show what happens then.
      const json = JSON.stringify({ sum: add?.[0] + add?.[1] });
      socket.write(add === undefined ? 'sorry#' : `${json.length}#${json}`);
    }
  });
});

const pool = createPool({ host, port, codec: sizedJson, max: 2 });
pool.on('closed', ({ reason }) => console.log(`a socket closed: ${reason}`));

console.log('1 + 2:', await pool.request({ add: [1, 2] }));

try {
  await pool.request({ subtract: [1, 2] });
} catch (error) {
  // The one who asked is told; nobody else notices, and the next request gets a good socket.
  console.log('what is no frame:', /** @type {import('pulsepool').FrameError} */ (error).code);
}
console.log('3 + 4:', await pool.request({ add: [3, 4] }));

await pool.close();
close();
