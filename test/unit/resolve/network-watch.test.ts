import type { NetworkInterfaceInfo } from 'node:os';
import os from 'node:os';
import { describe, expect, it, vi } from 'vitest';
import { type NetworkChange, NetworkWatch } from '../../../src/resolve/network-watch.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

function info(cidr: string, internal = false): NetworkInterfaceInfo {
  const address = cidr.slice(0, cidr.indexOf('/'));
  return { address, cidr, family: 'IPv4', internal, mac: '00:00:00:00:00:00', netmask: '255.255.255.0' };
}

const LOOPBACK = { lo: [info('127.0.0.1/8', true)] };
const HOME = { ...LOOPBACK, eth0: [info('192.168.0.7/24')] };

function watching(interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = HOME) {
  const clock = new VirtualClock();
  const seen: NetworkChange[] = [];
  const network = { interfaces };
  const watch = new NetworkWatch({
    interfaces: () => network.interfaces,
    clock,
    onChange: (change) => seen.push(change),
  });
  watch.start();
  return { clock, network, seen, watch };
}

describe('the watch of the network', () => {
  it('says nothing while nothing changes', async () => {
    const { clock, network, seen } = watching();
    await clock.advance(60_000);
    // Another object, in another order.
    network.interfaces = { eth0: [info('192.168.0.7/24')], ...LOOPBACK };
    await clock.advance(60_000);
    expect(seen).toEqual([]);
  });

  it('tells within 5 s which addresses came and went', async () => {
    const { clock, network, seen } = watching();
    network.interfaces = { ...LOOPBACK, wlan0: [info('172.20.10.2/28')] };
    await clock.advance(4_999);
    expect(seen).toEqual([]);
    await clock.advance(1);
    expect(seen).toEqual([{ added: ['wlan0 172.20.10.2/28'], removed: ['eth0 192.168.0.7/24'], wokeMs: 0 }]);
    await clock.advance(60_000);
    expect(seen).toHaveLength(1);
  });

  it('tells when the network is gone, and when it is back', async () => {
    const { clock, network, seen } = watching();
    network.interfaces = LOOPBACK;
    await clock.advance(5_000);
    network.interfaces = HOME;
    await clock.advance(5_000);
    expect(seen.map(({ added, removed }) => [added.length, removed.length])).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });

  it('does not care for addresses that are of this machine alone', async () => {
    const { clock, network, seen } = watching();
    network.interfaces = { ...HOME, lo: [info('127.0.0.1/8', true), info('127.0.0.53/8', true)] };
    await clock.advance(10_000);
    expect(seen).toEqual([]);
  });

  it('does not care for link-local addresses, which come and go with every container', async () => {
    const { clock, network, seen } = watching();
    network.interfaces = { ...HOME, veth1: [info('fe80::1/64')] };
    await clock.advance(10_000);
    expect(seen).toEqual([]);
  });

  it('tells of a sleep, during which the clock stood still', async () => {
    const { clock, seen } = watching();
    await clock.advance(2_000);
    clock.sleptMs = 600_000;
    await clock.advance(3_000);
    expect(seen).toEqual([{ added: [], removed: [], wokeMs: 600_000 }]);
    await clock.advance(60_000);
    expect(seen).toHaveLength(1);
  });

  it('tells of a freeze, during which it went on', async () => {
    const { clock, seen } = watching();
    clock.freeze(65_000);
    await clock.advance(0);
    expect(seen).toEqual([{ added: [], removed: [], wokeMs: 60_000 }]);
  });

  it('does not take a clock that is set by 2 s or back for a sleep', async () => {
    const { clock, seen } = watching();
    clock.sleptMs = 2_000;
    await clock.advance(5_000);
    clock.sleptMs = -600_000;
    await clock.advance(5_000);
    expect(seen).toEqual([]);
  });

  it('goes on where the system does not tell its addresses, and warns once', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    try {
      const clock = new VirtualClock();
      const seen: NetworkChange[] = [];
      let isForbidden = true;
      const watch = new NetworkWatch({
        interfaces: () => {
          if (isForbidden) throw new Error('EPERM');
          return HOME;
        },
        clock,
        onChange: (change) => seen.push(change),
      });
      watch.start();
      await clock.advance(10_000);
      clock.sleptMs = 10_000;
      await clock.advance(5_000);
      expect(seen).toEqual([{ added: [], removed: [], wokeMs: 10_000 }]);
      isForbidden = false;
      await clock.advance(10_000);
      isForbidden = true;
      await clock.advance(10_000);
      expect(seen).toHaveLength(1);
      expect(warn).toHaveBeenCalledTimes(1);
    } finally {
      warn.mockRestore();
    }
  });

  it('leaves no timer at its end, which may come from who is told', async () => {
    const { clock, watch } = watching();
    watch.end();
    expect(clock.pendingTimers).toBe(0);
    const later = new VirtualClock();
    let looks = 0;
    const own = new NetworkWatch({
      interfaces: () => {
        looks += 1;
        return { eth0: [info(`10.0.0.${looks}/24`)] };
      },
      clock: later,
      onChange: () => own.end(),
    });
    own.start();
    await later.advance(60_000);
    expect(looks).toBe(2);
    expect(later.pendingTimers).toBe(0);
  });

  it('reads what this machine says', async () => {
    const clock = new VirtualClock();
    const seen: NetworkChange[] = [];
    const watch = new NetworkWatch({
      interfaces: os.networkInterfaces,
      clock,
      onChange: (change) => seen.push(change),
    });
    watch.start();
    watch.end();
    expect(seen).toEqual([]);
  });
});
