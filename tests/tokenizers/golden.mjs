// Writes data/strings.json, strings made from a seed, and data/{gpt2,llama2,llama3,qwen2}.txt, their token ids, a
// line for each string, as two independent implementations agree on them:
//
//   scripts/fetch-data.sh gpt2-tokenizer test-tokenizers
//   npm install --prefix /tmp/oracles tiktoken@1.0.22 gpt-3-encoder@1.1.4 @huggingface/tokenizers@0.2.0 \
//     llama-tokenizer-js@1.2.2 llama3-tokenizer-js@1.2.0
//   node tests/tokenizers/golden.mjs /tmp/oracles .cache/data/test-tokenizers
//
// What JavaScript's \s means otherwise than Unicode's White_Space (U+FEFF, U+0085), and characters that are
// newer than Unicode 12, is not in the strings.
import fs from 'node:fs';
import path from 'node:path';
import {createRequire} from 'node:module';
import {pathToFileURL} from 'node:url';

const [oracles, tokenizers] = process.argv.slice(2);
const require = createRequire(path.resolve(oracles, 'x.js'));
const load = async name => import(pathToFileURL(path.join(oracles, 'node_modules', name)).href);
const data = path.join(path.dirname(new URL(import.meta.url).pathname), 'data');

// xorshift32 (Marsaglia 2003).
let state = 20261130;
const random = n => {
  state ^= state << 13; state ^= state >>> 17; state ^= state << 5; state >>>= 0;
  return state % n;
};
const pick = list => list[random(list.length)];
const times = (n, f) => Array.from({length: n}, f);
const between = (first, last) => () => String.fromCodePoint(first + random(last - first + 1));

const words = ('the of and God said unto Behold LORD whale Ishmael harpoon sea-captain naïve café façade über ' +
  'straße Ελληνικά Москва שלום عربي हिन्दी ไทย 日本語 中文 한국어 tokenizer antidisestablishmentarianism x I a').split(' ');
const contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'x", "''s",
  "\u2019s", "'\u017f"];
const blanks = [' ', '  ', '   ', '\t', '\n', '\r\n', '\n\n', '\u00a0', '\u2003', '\u3000', '\u2028', '\u000b', '\u000c',
  '        ', ' \n ', '\n  \n', '\t\t '];
const emoji = ['😀', '👍🏽', '👨‍👩‍👧‍👦', '🏳️‍🌈', '🇩🇪', '❤️', '☃', '🤷🏻‍♀️', '1️⃣', '🦊'];
const special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<s>', '</s>', '<unk>', '<|begin_of_text|>', '<|eot_id|>',
  '<|end_of_text|>', '<|endoftext', '<0x0A>', '<|start_header_id|>'];
const composed = ['e\u0301', 'a\u0308', 'n\u0303', '\u1100\u1161\u11a8', '\u212b', '\u0344', 'o\u0302\u0323', 'ﬁ', '\u0958'];
const numbers = ['0', '7', '42', '123', '1234', '1611', '3.14159', '1,000,000', '½', '²', 'Ⅷ', '٣', '一', '𝟘', '12345678901234567890'];
const marks = ['.', ',', '!', '?!', '...', ';', ':', '"', '(', ')', '--', '—', '$', '€', '`', '\\', '/', '#', '@', '▁', '_', '\u0000',
  '\u0007', '\u200b', '\u200d', '\ufffd', '\ue000', '{"a": [1]}', 'if (x) {\n\treturn;\n}\n'];
const scripts = [between(0x20, 0x7e), between(0xa1, 0x24f), between(0x391, 0x3c9), between(0x410, 0x44f), between(0x5d0, 0x5ea),
  between(0x621, 0x64a), between(0x905, 0x939), between(0xe01, 0xe2e), between(0x3041, 0x3093), between(0x4e00, 0x9fa5),
  between(0xac00, 0xd7a3), between(0x1f600, 0x1f64f), between(0x1d400, 0x1d454), between(0x20000, 0x2a6d6), between(0x300, 0x36f),
  between(0x2190, 0x21ff), between(0xf0000, 0xf00ff), between(0xe0100, 0xe01ef)];

const kinds = [
  () => times(2 + random(6), () => pick(words)).join(' '),
  () => times(2 + random(4), () => pick(words) + pick(contractions)).join(pick(['', ' '])),
  () => times(2 + random(6), () => pick(random(2) ? blanks : words)).join(''),
  () => times(1 + random(4), () => pick(emoji)).join(pick(['', ' '])),
  () => { const script = pick(scripts); return times(1 + random(12), script).join(''); },
  () => times(1 + random(10), () => pick(scripts)()).join(''),
  () => times(1 + random(5), () => pick(numbers)).join(pick(['', ' ', ',', '\n'])),
  () => times(1 + random(6), () => pick(marks)).join(pick(['', ' '])),
  () => times(2 + random(4), () => pick(random(2) ? special : words)).join(pick(['', ' '])),
  () => times(2 + random(5), () => pick(random(2) ? composed : words)).join(pick(['', ' '])),
  () => times(3 + random(8), () => pick(pick([words, contractions, blanks, emoji, numbers, marks, composed]))).join(''),
  () => pick([' ', '\n', 'a', '=', '-', '!', 'ha', '0']).repeat(1 + random(70)),
];

const strings = ['', ' ', '\n', "'", 'a'];
for (let c = 0; c < 256; ++c) if (c !== 0x85) strings.push(String.fromCharCode(c));
// Every byte that UTF-8 can have.
for (let lead = 0xc2; lead <= 0xdf; ++lead) strings.push(Buffer.from([lead, 0xbf - (lead & 3)]).toString());
for (let row = 0; row < 16; ++row) strings.push(String.fromCodePoint(0x1000 * row + 0x123 + (row === 13 ? -0x800 : 0)));
for (let plane = 1; plane <= 16; ++plane) strings.push(String.fromCodePoint(0x10000 * plane));
while (strings.length < 1500) strings.push(kinds[strings.length % kinds.length]());
strings.push(words.join(' ').repeat(3));
if (strings.some(s => /[\ufeff\u0085]/.test(s) || !s.isWellFormed())) throw new Error('a string that oracles read otherwise');

const hasSpecial = s => special.some(t => s.includes(t));
const same = (a, b) => a.length === b.length && a.every((id, i) => id === b[i]);

function compare(name, string, answers) {
  const [[first, ids], ...others] = Object.entries(answers);
  for (const [other, theirs] of others) {
    if (same(ids, theirs)) continue;
    throw new Error(`${name}: ${first} and ${other} differ on ${JSON.stringify(string)}: ${ids} and ${theirs}`);
  }
  return ids;
}

const {Tiktoken, get_encoding} = require('tiktoken');
const gpt3 = require('gpt-3-encoder');
const {Tokenizer} = await load('@huggingface/tokenizers/dist/tokenizers.mjs');
const {LlamaTokenizer} = await load('llama-tokenizer-js/llama-tokenizer.js');
const {Llama3Tokenizer} = await load('llama3-tokenizer-js/bundle/llama3-tokenizer-with-baked-data.js');
const read = name => JSON.parse(fs.readFileSync(path.join(tokenizers, `${name}.json`), 'utf8'));
const hub = name => {
  const tokenizer = new Tokenizer(read(name), {});
  return s => tokenizer.encode(s).ids;
};

const gpt2 = get_encoding('gpt2');
const table = JSON.parse(fs.readFileSync(require.resolve('tiktoken/encoders/gpt2.json'), 'utf8'));
const qwenPattern = read('qwen2').pre_tokenizer.pretokenizers[0].pattern.Regex;
const qwen = new Tiktoken(table.bpe_ranks, {'<|endoftext|>': 50256, '<|im_start|>': 50257, '<|im_end|>': 50258}, qwenPattern);
const llama2 = new LlamaTokenizer();
const llama3 = new Llama3Tokenizer();
const [hubGpt2, hubLlama2, hubLlama3, hubQwen2] = ['gpt2', 'llama2', 'llama3', 'qwen2'].map(hub);

const golden = {gpt2: [], llama2: [], llama3: [], qwen2: []};
const compared = {};
const note = (name, count) => { compared[name] = compared[name] || [0, 0]; compared[name][count > 1 ? 1 : 0] += 1; };
for (const s of strings) {
  const answers = {
    gpt2: {tiktoken: Array.from(gpt2.encode(s, 'all')), ...(hasSpecial(s) ? {} : {'gpt-3-encoder': gpt3.encode(s)}), hub: hubGpt2(s)},
    llama2: {hub: hubLlama2(s), ...(hasSpecial(s) || s === '' ? {} : {'llama-tokenizer-js': llama2.encode(s)})},
    llama3: {hub: hubLlama3(s), 'llama3-tokenizer-js': llama3.encode(s, {bos: true, eos: false})},
    qwen2: {tiktoken: Array.from(qwen.encode(s.normalize('NFC'), 'all')), hub: hubQwen2(s)},
  };
  for (const [name, given] of Object.entries(answers)) {
    try {
      golden[name].push(compare(name, s, given));
      note(name, Object.keys(given).length);
    } catch (e) {
      console.log(e.message);
      golden[name].push(null);
    }
  }
}
fs.mkdirSync(data, {recursive: true});
fs.writeFileSync(path.join(data, 'strings.json'), '[\n' + strings.map(s => JSON.stringify(s)).join(',\n') + '\n]\n');
for (const [name, lines] of Object.entries(golden)) {
  fs.writeFileSync(path.join(data, `${name}.txt`), lines.map(ids => (ids || ['?']).join(' ') + '\n').join(''));
}
console.log(`${strings.length} strings; by one oracle, by two or more:`, compared);
