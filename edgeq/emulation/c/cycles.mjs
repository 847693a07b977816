// Runs a test firmware on rp2040js's model of the Cortex-M0+, which counts cycles.
//
//   node cycles.mjs RP2040JS FIRMWARE.ELF BEGIN END
//
// The core gets flash and RAM where the firmware wants them. Semihosting is served from the folder that it
// runs in. The cycles between the instructions at BEGIN and END are printed, a line a sample.
import { readFileSync, openSync, readSync, writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [rp2040js, elf, begin, end] = process.argv.slice(2);
const { RP2040 } = await import(pathToFileURL(rp2040js).href);
const SIZE = 4 << 20, RAM_AT = 0x20000000, CORE_AT = 0xe0000000;
const FLASH = new ArrayBuffer(SIZE), RAM = new ArrayBuffer(SIZE);
const OPEN = 0x01, WRITE0 = 0x04, WRITE = 0x05, READ = 0x06, EXIT_EXTENDED = 0x20;

function nowhere(address) {
  if (address >= CORE_AT) return 0; // the core's own registers: as if unused
  process.stdout.write(`no memory at 0x${address.toString(16)}\n`);
  process.exit(70);
}

const memory = {
  logger: { debug() {}, info() {}, warn() {}, error() {} },
  onBreak: () => serve(),
};
for (const [kind, shift] of [[Uint8Array, 0], [Uint16Array, 1], [Uint32Array, 2]]) {
  const flash = new kind(FLASH), ram = new kind(RAM);
  memory[`readUint${8 << shift}`] = (signed) => {
    const address = signed >>> 0;
    if (address < SIZE) return flash[address >> shift];
    const at = address - RAM_AT;
    return at >= 0 && at < SIZE ? ram[at >> shift] : nowhere(address);
  };
  memory[`writeUint${8 << shift}`] = (signed, value) => {
    const address = signed >>> 0, at = address - RAM_AT;
    if (at >= 0 && at < SIZE) ram[at >> shift] = value;
    else nowhere(address);
  };
}

const core = new RP2040().core;
core.rp2040 = memory;
const words = (address, count) => Array.from({ length: count }, (_, i) => memory.readUint32(address + 4 * i));
const bytesAt = (address, size) => (
  address < SIZE ? new Uint8Array(FLASH, address, size) : new Uint8Array(RAM, address - RAM_AT, size));

function serve() {
  const [operation, block] = [core.registers[0], core.registers[1]];
  if (operation === EXIT_EXTENDED) process.exit(words(block, 2)[1]);
  if (operation === WRITE0) {
    let size = 0;
    while (memory.readUint8(block + size)) size++;
    process.stdout.write(bytesAt(block, size));
    return;
  }
  const [first, address, size] = words(block, 3);
  if (operation === OPEN) {
    core.registers[0] = openSync(Buffer.from(bytesAt(first, size)).toString(), address < 4 ? 'r' : 'w');
  } else if (operation === READ || operation === WRITE) {
    const moved = (operation === READ ? readSync : writeSync)(first, bytesAt(address, size));
    core.registers[0] = size - moved;
  } else {
    core.registers[0] = 0xffffffff;
  }
}

const file = readFileSync(elf);
const programs = file.readUInt32LE(28), count = file.readUInt16LE(44);
for (let i = 0; i < count; i++) {
  const [kind, offset, , physical, size] = [0, 4, 8, 12, 16].map((at) => file.readUInt32LE(programs + 32 * i + at));
  if (kind === 1 && size > 0) bytesAt(physical, size).set(file.subarray(offset, offset + size));
}
core.reset();
const [from, to] = [parseInt(begin), parseInt(end)];
let since = 0;
for (;;) {
  if (core.PC === from) since = core.cycles;
  else if (core.PC === to) process.stdout.write(`cycles ${core.cycles - since}\n`);
  core.executeInstruction();
}
