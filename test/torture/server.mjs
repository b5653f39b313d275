/**
 * The server of a torture, in a process of its own: it answers questions, most of them well, and counts what it does
 * wrong. What it may do and why that is fair is said in misdeeds.mjs.
 *
 *     node server.mjs SEED SUBJECT
 *
 * It tells its parent the ports, obeys its orders, and ends when the parent lets go of it.
 */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import tls from 'node:tls';
import { Chance } from './chance.mjs';
import { doorsOf, SUBJECTS } from './doors.mjs';
import { answersTo, CUTS, FAREWELLS, GREETINGS, PONGS } from './misdeeds.mjs';
import { answerSize, FLAGS, TALKS } from './talk.mjs';

/** @typedef {import('./talk.mjs').Question} Question */
/** @typedef {'FIN' | 'RST'} Goodbye */

/**
 * What the parent may order.
 *
 * `signAt`: a hasty farewell, for sockets that have served only; a file is to be made there when it has been said.
 *
 * @typedef {{ order: 'hello' } | { order: 'farewell', door: number, signAt?: string } | { order: 'report' }} Order
 */

/**
 * What it hears, with the serial number of its order.
 *
 * @typedef {object} Answer
 * @property {number} serial
 * @property {Hello} [hello]
 * @property {number} [sockets] how many were told farewell
 * @property {Report} [report]
 */

/**
 * @typedef {object} Hello
 * @property {number[]} ports of the doors
 * @property {string} cert
 */

/**
 * @typedef {object} Report
 * @property {Record<string, number>} counts what was done, by name
 * @property {Uint8Array} seen how often each question came, by id
 * @property {number[]} repeated questions that came again though nobody had said that they may
 * @property {number[]} spoilt questions that came on a socket that should have been ended
 * @property {number} spoils how often bytes were sent that end a socket
 * @property {number} pingedOn sockets that should have been ended and were pinged for long
 * @property {number} nonsense questions that were not as they had been asked
 * @property {number} accepted sockets, in all
 * @property {string[]} open sockets still open, by the names of their doors
 */

// Answers up to here may have company in their write: one segment, one read, whatever the path.
const SMALL = 1_024;
const LATEST_MS = 80;
// A ping may cross bytes that will end its socket, and so may the one for a borrower. More are no accident.
const PINGS_CROSSING = 3;
const CLOSED_FOR_MS = 50;
const OPEN_FOR_MS = { least: 150, most: 700 };
// What has not happened to clients yet comes with one of so many draws: so everything has happened early. For what is drawn
// seldom this is more often.
const FIRST_IN = 4;
const FIRST_OF_FEW_IN = 2;
// Marks begin at 1, and no client asks as often.
const NOBODYS_MARK = 0xffff_fff0;

/** The certificate of the other tests, read and not imported: this version of Node knows no TypeScript. */
const IDENTITY = (() => {
  const source = readFileSync(new URL('../support/self-signed.ts', import.meta.url), 'utf8');
  const [cert = '', key = ''] = [...source.matchAll(/-----BEGIN [\s\S]+?-----END [A-Z ]+-----\n/g)].map(
    String,
  );
  return { cert, key };
})();

const chance = new Chance(Number(process.argv[2] ?? 1));
const subject = SUBJECTS.find((name) => name === process.argv[3]) ?? 'pool';
/** @type {Record<string, number>} */
const counts = {};
/** @type {number[]} */
const repeated = [];
/** @type {number[]} */
const spoilt = [];
/** Questions that were refused: they may come again, once. @type {Set<number>} */
const refused = new Set();
let seen = new Uint8Array(1 << 16);
let spoils = 0;
let pingedOn = 0;
let nonsense = 0;
let accepted = 0;
/** Open sockets, and the names of their doors. @type {Map<net.Socket, string>} */
const open = new Map();

/**
 * An accepted socket, beneath TLS or not.
 *
 * @param {net.Socket} socket
 * @param {string} door
 */
function accept(socket, door) {
  accepted += 1;
  open.set(socket, door);
  socket.on('close', () => open.delete(socket));
}

function count(/** @type {string} */ name) {
  counts[name] = (counts[name] ?? 0) + 1;
}

/** Whether the question comes for the first time, or may come again. Writes down that it came. */
function see(/** @type {Question} */ { id, flags }) {
  if (id >= seen.length) {
    const larger = new Uint8Array(Math.max(id + 1, 2 * seen.length));
    larger.set(seen);
    seen = larger;
  }
  const before = seen[id] ?? 0;
  if (before < 255) seen[id] = before + 1;
  const wasRefused = refused.delete(id);
  if (before > 0 && !wasRefused && (flags & FLAGS.idempotent) === 0) repeated.push(id);
}

/**
 * What becomes of something.
 *
 * @template {string} Name
 * @param {import('./chance.mjs').Urn<Name>} urn
 * @param {number} [firstIn]
 * @returns {Name}
 */
function draw(urn, firstIn = FIRST_IN) {
  if (subject !== 'pool' && chance.next() * firstIn < 1) {
    const first = urn.names.find((name) => counts[name] === undefined);
    if (first !== undefined) return first;
  }
  return chance.draw(urn);
}

/** One accepted socket: it answers its questions one after the other; those with marks in any order. */
class Visit {
  #door;
  #socket;
  #reset;
  /** @type {Buffer | undefined} */
  #pending;
  /** @type {Question[]} */
  #waiting = [];
  /** Questions that were answered late. @type {Set<Question>} */
  #comeBack = new Set();
  /** Whose socket it is, as far as marks tell. */
  client = 0;
  #isBusy = false;
  // We have said goodbye, or they have: nothing more is answered.
  #isOver = false;
  /** Answers that wait for their common write, while there is one. @type {number | undefined} */
  #together;
  // Bytes were sent that nobody had asked for, where the client had to notice: nobody may ask here any more.
  #isSpoilt = false;
  // Questions have come: so the client knows that it is open.
  #hasServed = false;
  // Pings that came nevertheless.
  #pingsSpoilt = 0;

  /**
   * @param {Door} door
   * @param {net.Socket} socket
   * @param {() => void} reset
   */
  constructor(door, socket, reset) {
    this.#door = door;
    this.#socket = socket;
    this.#reset = reset;
    door.visits.add(this);
    socket.on('data', (chunk) => this.#onData(chunk));
    // A client that gives up resets its socket; that is no news here.
    socket.on('error', () => socket.destroy());
    socket.on('end', () => {
      this.#isOver = true;
    });
    socket.on('close', () => {
      this.#isOver = true;
      door.visits.delete(this);
    });
    if (door.greets) this.#greet();
  }

  /** Whether one side has said goodbye. */
  get isOver() {
    return this.#isOver;
  }

  /** Whether questions have come. */
  get hasServed() {
    return this.#hasServed;
  }

  /** Says something that nobody asked for. Only in a quiet moment: see misdeeds.mjs. */
  bidFarewell() {
    const way = draw(FAREWELLS, FIRST_OF_FEW_IN);
    count(way);
    if (way === 'FIN to a socket at rest') this.#leave('FIN');
    else if (way === 'RST to a socket at rest') this.#leave('RST');
    else {
      const farewell = this.#door.talk.word('farewell');
      this.#spoil(way === 'one byte to a socket at rest' ? farewell.subarray(0, 1) : farewell);
      if (way === 'a frame and FIN to a socket at rest') this.#leave('FIN');
    }
  }

  // ---- in ------------------------------------------------------------------------------------------------

  #onData(/** @type {Buffer} */ chunk) {
    const { talk } = this.#door;
    const bytes = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk]);
    let from = 0;
    for (let end = talk.end(bytes, from); end !== -1; end = talk.end(bytes, from)) {
      const question = talk.read(bytes, from, end);
      from = end;
      if (question.kind === 'nonsense') nonsense += 1;
      if (question.kind === 'question') {
        see(question);
        this.#hasServed = true;
        if (question.mark !== 0) this.client = question.client;
        // Those with marks may cross the stray bytes: they are answered with poison.
        if (this.#isSpoilt && question.mark === 0) spoilt.push(question.id);
      }
      if (question.kind === 'ping' && this.#isSpoilt) {
        this.#pingsSpoilt += 1;
        if (this.#pingsSpoilt === PINGS_CROSSING) pingedOn += 1;
      }
      if (question.mark !== 0) this.#shuffleIn(question);
      else if ((question.flags & FLAGS.silent) === 0) this.#waiting.push(question);
    }
    this.#pending = from === bytes.length ? undefined : bytes.subarray(from);
    // Answers to questions that came together may leave together.
    if (this.#waiting.length > 1 && chance.happens(0.5)) this.#answerTogether();
    else this.#goOn();
  }

  /** Answers come in any order: some of them sooner than those before them, some later than those behind them. */
  #shuffleIn(/** @type {Question} */ question) {
    const way = chance.integer(0, 9);
    const isFirst = this.#waiting.length === 0;
    if (way > 5 || (way > 1 && isFirst)) {
      this.#waiting.push(question);
      return;
    }
    count('answers in another order');
    if (way > 1) this.#waiting.splice(chance.integer(0, this.#waiting.length - 1), 0, question);
    else this.#comeBackTo(question, chance.integer(0, 8));
  }

  /** Meanwhile others are answered. */
  #comeBackTo(/** @type {Question} */ question, /** @type {number} */ ms) {
    setTimeout(() => {
      this.#waiting.push(question);
      this.#goOn();
    }, ms);
  }

  #answerTogether() {
    this.#together = 0;
    this.#socket.cork();
    this.#goOn();
    this.#socket.uncork();
    if (this.#together > 1) count('several answers in one write');
    this.#together = undefined;
  }

  #goOn() {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      if (next.kind === 'ping') this.#pong();
      else this.#answer(next);
    }
  }

  #next() {
    return this.#isBusy || this.#isOver ? undefined : this.#waiting.shift();
  }

  // ---- out -----------------------------------------------------------------------------------------------

  #greet() {
    const way = draw(GREETINGS, FIRST_OF_FEW_IN);
    count(way);
    const greeting = this.#door.talk.word('greeting');
    if (way === 'greets') this.#write(greeting);
    else if (way === 'greets late') this.#later(chance.integer(1, 20), () => this.#write(greeting));
    else if (way === 'FIN instead of a greeting') this.#leave('FIN');
    else if (way === 'stray bytes behind the greeting') this.#spoil(greeting, this.#stray());
  }

  #pong() {
    const way = draw(PONGS, FIRST_OF_FEW_IN);
    count(way);
    const pong = this.#door.talk.word('pong');
    if (way === 'pong') this.#write(pong);
    else if (way === 'pong late') this.#later(this.#delay(), () => this.#write(pong));
    else if (way === 'falls silent instead of a pong') this.#isBusy = true;
    else if (way === 'another frame instead of a pong') this.#spoil(this.#door.talk.word('farewell'));
    else if (way === 'stray bytes behind the pong') this.#spoil(pong, this.#stray());
    else if (way === 'RST instead of a pong') this.#leave('RST');
  }

  #answer(/** @type {Question} */ question) {
    const { talk } = this.#door;
    const { id, flags, mark } = question;
    const isSmall = answerSize(id) <= SMALL;
    const isAlone = (flags & FLAGS.alone) !== 0 && isSmall;
    const urn = answersTo(flags, isSmall);
    const way = this.#comeBack.delete(question) ? 'answers well' : draw(urn);
    count(way);
    // Behind stray bytes nobody may hear anything.
    const answer = talk.reply(this.#isSpoilt ? 'poison' : 'answer', question);
    switch (way) {
      case 'answers well':
        this.#say(answer);
        return;
      case 'refuses':
        refused.add(id);
        this.#say(talk.reply(this.#isSpoilt ? 'poison' : 'refusal', question));
        return;
      case 'answers late':
        if (mark !== 0) this.#postpone(question, this.#delay());
        else {
          this.#later(this.#delay(), () => {
            if (this.#isOver || this.#socket.destroyed) count('a late answer that nobody waits for');
            this.#write(answer);
          });
        }
        return;
      case 'never answers':
        // Nor any question that comes after it on this socket, unless they have marks.
        if (mark === 0) this.#isBusy = true;
        return;
      case 'answers and says FIN':
        this.#write(answer);
        this.#leave('FIN');
        return;
      case 'answers and resets':
        this.#write(answer);
        this.#leave('RST');
        return;
      case 'FIN in the middle of a frame':
      case 'RST in the middle of a frame':
        this.#write(this.#part(answer));
        // Sometimes a moment later, so that the client has read the part by then.
        if (chance.happens(0.5)) this.#leave(way === 'FIN in the middle of a frame' ? 'FIN' : 'RST');
        else this.#later(1, () => this.#leave(way === 'FIN in the middle of a frame' ? 'FIN' : 'RST'));
        return;
      case 'stops in the middle of a frame':
        this.#write(this.#part(answer));
        this.#isBusy = true;
        return;
      case 'FIN instead of an answer':
        this.#leave('FIN');
        return;
      case 'RST instead of an answer':
        this.#leave('RST');
        return;
      case 'garbage instead of an answer':
        // Pipelined questions may be on their way.
        if (isAlone) this.#spoil(talk.garbage());
        else this.#write(talk.garbage());
        this.#isBusy = true;
        return;
      case 'stops reading for a while':
        this.#socket.pause();
        this.#later(chance.integer(5, 30), () => {
          this.#socket.resume();
          this.#write(answer);
        });
        return;
      case 'a mark of nobody':
        this.#spoil(answer, talk.reply('answer', { ...question, mark: NOBODYS_MARK }));
        return;
      case 'a frame without a mark':
        this.#spoil(answer, talk.word('farewell'));
        return;
      case 'answers again later':
        this.#write(answer);
        setTimeout(() => this.#queue(answer), chance.integer(0, 15));
        return;
      case 'answers a question of another socket':
        this.#answerElsewhere(question);
        this.#say(answer);
        return;
      case 'stray bytes behind the answer':
        this.#spoil(answer, this.#stray());
        return;
      case 'answers twice':
        this.#spoil(answer, answer);
        return;
      case 'farewell and FIN behind the answer':
        this.#spoil(answer, talk.word('farewell'));
        this.#leave('FIN');
        return;
      case 'hangs up at rest':
        this.#write(answer);
        setTimeout(
          () => {
            // Asked again meanwhile: not at rest. A question under way is lost, as with any server that hangs up.
            if (!this.#isBusy && this.#pending === undefined) this.#leave(chance.pick(['FIN', 'RST']));
          },
          chance.integer(0, 4),
        );
        return;
    }
  }

  /** It comes up again, and is answered well then. */
  #postpone(/** @type {Question} */ question, /** @type {number} */ ms) {
    this.#comeBack.add(question);
    setTimeout(() => {
      if (this.#isOver || this.#socket.destroyed) count('a late answer that nobody waits for');
      this.#waiting.push(question);
      this.#goOn();
    }, ms);
  }

  /** Stray bytes, as soon as no frame is under way. */
  #queue(/** @type {Buffer} */ stray) {
    if (this.#isOver) return;
    if (this.#isBusy) setTimeout(() => this.#queue(stray), 1);
    else this.#spoil(stray);
  }

  /** Another socket of the same client gets the answer, too, where its mark is strange. */
  #answerElsewhere(/** @type {Question} */ question) {
    for (const visit of this.#door.visits) {
      if (visit === this || visit.isOver || visit.client !== question.client) continue;
      visit.#queue(this.#door.talk.reply('answer', question));
      return;
    }
  }

  /** Writes an answer, cut as it happens. */
  #say(/** @type {Buffer} */ answer) {
    const cut = this.#together === undefined ? draw(CUTS) : 'in one write';
    count(cut);
    if (cut === 'in one write') {
      if (this.#together !== undefined) this.#together += 1;
      this.#write(answer);
      return;
    }
    /** @type {number[]} */
    const borders = [];
    if (cut === 'byte by byte') {
      // All of a short one, the header and more of a long one.
      for (let at = 1; at < Math.min(answer.length, 16); at++) borders.push(at);
    } else {
      // One in the header, where it hurts most, and some anywhere.
      borders.push(chance.integer(1, 8));
      for (let cuts = chance.integer(0, 3); cuts > 0; cuts--) borders.push(chance.integer(1, answer.length));
      borders.sort((one, other) => one - other);
    }
    this.#isBusy = true;
    this.#sayFrom(answer, 0, borders);
  }

  /**
   * @param {Buffer} answer
   * @param {number} from
   * @param {number[]} borders
   */
  #sayFrom(answer, from, borders) {
    const border = borders.shift();
    this.#write(answer.subarray(from, border));
    if (border === undefined || border >= answer.length) {
      this.#isBusy = false;
      this.#goOn();
      return;
    }
    const more = () => this.#sayFrom(answer, border, borders);
    if (chance.happens(0.05)) setTimeout(more, chance.integer(1, 3));
    else setImmediate(more);
  }

  /** Answers nothing else before `then`. */
  #later(/** @type {number} */ ms, /** @type {() => void} */ then) {
    this.#isBusy = true;
    setTimeout(() => {
      this.#isBusy = false;
      then();
      this.#goOn();
    }, ms);
  }

  /** Short delays are the likelier ones: a client that has given up a moment ago is the dangerous one. */
  #delay() {
    return 1 + Math.floor(LATEST_MS * chance.next() ** 2);
  }

  #part(/** @type {Buffer} */ answer) {
    return answer.subarray(0, chance.integer(1, answer.length - 1));
  }

  /** Bytes that are nobody's: a frame, some of a frame, or an old answer said again. */
  #stray() {
    const { talk } = this.#door;
    const farewell = talk.word('farewell');
    const parts = chance.integer(0, 2);
    if (parts === 0) return farewell;
    if (parts === 1) return farewell.subarray(0, 1);
    return talk.reply('answer', { id: 1, client: 0, mark: 0 }).subarray(0, SMALL);
  }

  /** In one write: a proper frame, if there is one, and bytes that are nobody's. */
  #spoil(/** @type {Buffer[]} */ ...parts) {
    this.#isSpoilt = true;
    spoils += 1;
    this.#write(Buffer.concat(parts));
  }

  #write(/** @type {Buffer} */ bytes) {
    if (!this.#socket.destroyed && this.#socket.writable) this.#socket.write(bytes);
  }

  #leave(/** @type {Goodbye} */ goodbye) {
    // Node never closes a socket that is reset while it says goodbye.
    if (this.#isOver || this.#socket.destroyed) return;
    this.#isOver = true;
    if (goodbye === 'FIN') this.#socket.end();
    else this.#reset();
  }
}

/** One port: a wire format, plain or TLS, with or without a greeting. It closes and opens again. */
class Door {
  /** @type {Set<Visit>} */
  visits = new Set();
  port = 0;
  /** @type {net.Server | undefined} */
  #server;
  #tls;

  /** @param {import('./doors.mjs').DoorPlan} plan */
  constructor(plan) {
    this.name = plan.name;
    this.talk = TALKS[plan.talk];
    this.greets = plan.greets;
    this.#tls = plan.tls;
  }

  /** Listens, on the same port again when it has listened before. */
  async open() {
    for (;;) {
      // Below the ports that systems give to clients: while it is closed, a dial could be given this very port for
      // its own end, and be connected with itself.
      const port = this.port === 0 ? chance.integer(12_000, 30_000) : this.port;
      const server = this.#tls ? this.#tlsServer() : this.#plainServer();
      server.listen({ host: '127.0.0.1', port, backlog: 1_024 });
      try {
        await once(server, 'listening');
        this.port = port;
        this.#server = server;
        return;
      } catch (error) {
        if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EADDRINUSE') throw error;
      }
    }
  }

  /** Refuses new sockets for a moment. Those that are open stay. */
  async shutForAWhile() {
    count('stops listening for a while');
    this.#server?.close();
    await sleep(CLOSED_FOR_MS);
    await this.open();
  }

  #plainServer() {
    return net.createServer({ noDelay: true }, (socket) => {
      accept(socket, this.name);
      new Visit(this, socket, () => socket.resetAndDestroy());
    });
  }

  #tlsServer() {
    const server = tls.createServer({ ...IDENTITY, noDelay: true });
    /** @type {Map<number, net.Socket>} */
    const beneath = new Map();
    server.on('connection', (/** @type {net.Socket} */ raw) => {
      accept(raw, this.name);
      const { remotePort = 0 } = raw;
      beneath.set(remotePort, raw);
      raw.on('error', () => raw.destroy());
      raw.on('close', () => {
        // The next one may have the same port by now.
        if (beneath.get(remotePort) === raw) beneath.delete(remotePort);
      });
    });
    server.on('tlsClientError', () => undefined);
    server.on('secureConnection', (socket) => {
      const raw = beneath.get(socket.remotePort ?? 0);
      new Visit(this, socket, () => {
        // TLS itself can't be reset.
        if (raw === undefined) socket.destroy();
        else raw.resetAndDestroy();
      });
    });
    return server;
  }
}

const doors = doorsOf(subject).map((plan) => new Door(plan));
const opened = Promise.all(doors.map((door) => door.open()));

/** One door at a time of those that are in use, for ever. */
async function shutDoors() {
  await opened;
  for (;;) {
    await sleep(chance.integer(OPEN_FOR_MS.least, OPEN_FOR_MS.most));
    const [first, ...others] = doors.filter(({ visits }) => visits.size > 0);
    if (first !== undefined) await chance.pick([first, ...others]).shutForAWhile();
  }
}

/** @returns {Promise<Report>} */
async function report() {
  // Goodbyes may be under way.
  for (let waits = 0; open.size > 0 && waits < 100; waits++) await sleep(20);
  return { counts, seen, repeated, spoilt, spoils, pingedOn, nonsense, accepted, open: [...open.values()] };
}

/**
 * @param {Order} order
 * @returns {Promise<Omit<Answer, 'serial'>>}
 */
async function obey(order) {
  await opened;
  if (order.order === 'hello')
    return { hello: { ports: doors.map(({ port }) => port), cert: IDENTITY.cert } };
  if (order.order === 'report') return { report: await report() };
  // The client stands still: what it sent before, and the sockets it opened, are all here after some turns.
  for (let turns = 8; turns > 0; turns--) await turn();
  const { door, signAt } = order;
  const visits = [...(doors[door]?.visits ?? [])].filter(({ isOver }) => !isOver);
  // A socket that the client has just dialed may be lent before it is read.
  const told = signAt === undefined ? visits : visits.filter(({ hasServed }) => hasServed);
  for (const visit of told) visit.bidFarewell();
  if (signAt !== undefined) {
    if (told.length > 0) count('a hasty farewell');
    writeFileSync(signAt, '');
  }
  return { sockets: told.length };
}

process.on('message', (/** @type {Order & { serial: number }} */ { serial, ...order }) => {
  // A rejection ends this process, which the parent will notice.
  void obey(order).then((answer) => process.send?.({ serial, ...answer }));
});
process.on('disconnect', () => process.exit());
await shutDoors();
