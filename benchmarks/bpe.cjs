#!/usr/bin/env node
// GPT-2's byte-pair encoding of the King James Bible: trireme and tiktoken's WebAssembly, in turn, one thread each,
// without loading.
//
//   scripts/fetch-data.sh bible gpt2-tokenizer
//   npm install --prefix /tmp/peers tiktoken@1.0.22
//   node benchmarks/bpe.cjs /tmp/peers [rounds]
//
// BUILD as in train.sh. The ids must be equal. The first round is not counted.
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const crypto = require('node:crypto');
const readline = require('node:readline');
const {spawn} = require('node:child_process');
const {createRequire} = require('node:module');

process.chdir(path.join(__dirname, '..'));
const peers = path.resolve(process.argv[2] ?? '.');
const rounds = Number(process.argv[3] ?? 11);
const table = '.cache/data/gpt2-tokenizer/gpt2.json';
const text = '.cache/data/bible/bible.txt';
const {get_encoding} = createRequire(path.join(peers, 'x.js'))('tiktoken');

const program = spawn(path.join(process.env.BUILD ?? 'build/release', 'benchmarks/bench_bpe'), [table, text],
                      {stdio: ['pipe', 'pipe', 'inherit']});
const answers = readline.createInterface({input: program.stdout})[Symbol.asyncIterator]();

async function ours() {
  program.stdin.write('\n');
  const {value, done} = await answers.next();
  if (done) throw new Error('bench_bpe has ended');
  const [seconds, count, digest] = value.split(' ');
  return {seconds: Number(seconds), count: Number(count), digest};
}

const content = fs.readFileSync(text, 'utf8');
function theirs() {
  const encoding = get_encoding('gpt2');
  const begin = process.hrtime.bigint();
  const ids = encoding.encode_ordinary(content);
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  encoding.free();
  const bytes = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength);
  return {seconds, count: ids.length, digest: crypto.createHash('sha256').update(bytes).digest('hex')};
}

const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.round(q * (values.length - 1))];
const shown = values => [0.5, 0.25, 0.75].map(q => quantile(values, q).toFixed(3)).join(' | ');

(async () => {
  const seconds = {ours: [], theirs: [], ratio: []};
  for (let round = 0; round <= rounds; ++round) {
    const a = await ours();
    const b = theirs();
    if (a.digest !== b.digest) throw new Error(`ids differ: ${a.count} and ${b.count}`);
    if (round === 0) {
      console.log(`${a.count} tokens, equal ids; Node ${process.version}, ${os.cpus()[0].model}`);
      continue;
    }
    seconds.ours.push(a.seconds);
    seconds.theirs.push(b.seconds);
    seconds.ratio.push(b.seconds / a.seconds);
  }
  program.stdin.end();
  console.log(`\n| ${rounds} rounds | median | lower quartile | upper quartile |\n|---|---|---|---|`);
  console.log(`| trireme, s | ${shown(seconds.ours)} |`);
  console.log(`| tiktoken's WebAssembly, s | ${shown(seconds.theirs)} |`);
  console.log(`| tiktoken / trireme (wanted: at least 3) | ${shown(seconds.ratio)} |`);
})();
