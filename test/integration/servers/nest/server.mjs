/**
 * A NestJS microservice over TCP, as its documentation has one, without the decorators' syntax.
 *
 * - `{ cmd: 'sum' }`: the sum of `data`
 * - `{ cmd: 'echo' }`: `data`
 * - `{ cmd: 'count' }`: an Observable of 1, 2 … `data`
 * - `{ cmd: 'fail' }`: an RpcException with `data`
 * - `{ cmd: 'hold' }`: nothing, until somebody sends the event `release`
 * - `{ cmd: 'released' }`: the data of all `release` events
 *
 * Debian's Node is older than what Nest promises to run on. The TCP transport needs nothing newer.
 */
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, MessagePattern, RpcException, Transport } from '@nestjs/microservices';
import { range } from 'rxjs';

/** @type {unknown[]} */
const released = [];
/** @type {((data: unknown) => void)[]} */
const held = [];

class Answers {
  sum(/** @type {number[]} */ numbers) {
    return numbers.reduce((sum, number) => sum + number, 0);
  }

  echo(/** @type {unknown} */ data) {
    return data;
  }

  count(/** @type {number} */ last) {
    return range(1, last);
  }

  fail(/** @type {string} */ message) {
    throw new RpcException(message);
  }

  hold() {
    return new Promise((resolve) => held.push(resolve));
  }

  released() {
    return released;
  }

  release(/** @type {unknown} */ data) {
    released.push(data);
    for (const resolve of held.splice(0)) resolve(data);
  }
}

for (const name of Object.getOwnPropertyNames(Answers.prototype)) {
  const descriptor = Object.getOwnPropertyDescriptor(Answers.prototype, name);
  if (name === 'constructor' || descriptor === undefined) continue;
  const handles = name === 'release' ? EventPattern(name) : MessagePattern({ cmd: name });
  handles(Answers.prototype, name, descriptor);
}
Controller()(Answers);

class Service {}
Module({ controllers: [Answers] })(Service);

const service = await NestFactory.createMicroservice(Service, {
  transport: Transport.TCP,
  options: { host: '0.0.0.0', port: 3000 },
  logger: ['error', 'warn'],
});
await service.listen();
console.log('ready');
