// Holds what is said in Milky against the schemas of @saltify/milky-types, which is in the folder that is named: for each line
// {"kind": "event", "call" or "answer", "name", "value"} one line: ok, or what does not match.
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const types = await import(pathToFileURL(resolve(process.argv[2], 'types/package/dist/index.mjs')));
const apis = Object.assign({}, ...Object.values(types.zodApiCategories).map((category) => category.apis));

function* mismatches(schema, value, path = []) {
  for (const issue of schema.safeParse(value, { reportInput: true }).error?.issues ?? []) {
    // People and groups of the tests have small numbers; those of the network begin here.
    const small = issue.code === 'too_small' && issue.minimum === 10001 && issue.input > 0;
    if (!small) yield `${[...path, ...issue.path].join('.')}: ${issue.message}`;
  }
}

// The schema takes any segment that it does not know for a text, so each is looked at by itself.
function* segments(value, path) {
  for (const [key, part] of Object.entries(value ?? {})) {
    if (typeof part !== 'object') continue;
    if (key === 'segments' && Array.isArray(part)) {
      for (const [at, segment] of part.entries())
        yield* mismatches(types.IncomingSegment.unwrap(), segment, [...path, key, at]);
    }
    yield* segments(part, [...path, key]);
  }
}

function* check({ kind, name, value }) {
  if (kind === 'event') {
    yield* mismatches(types.Event, value);
    return yield* segments(value, []);
  }
  const api = apis[name];
  if (!api) return yield 'there is no such call';
  const schema = kind === 'call' ? api.requestSchema : api.responseSchema;
  if (schema) return yield* mismatches(schema, value);
  if (JSON.stringify(value) !== '{}') yield 'it is not the empty object';
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(([...check(JSON.parse(line))].slice(0, 5).join('; ') || 'ok').replaceAll('\n', ' ') + '\n');
