/** `docs/reference/errors.md`, from the tables of `errors.ts`. */
import { CLOSE_CODES, ERRORS } from './errors.js';

interface Row {
  meaning: string;
  retryable: boolean;
  http: number;
  close?: number;
}

/** The whole text, with a newline at its end. */
export function errorReference(): string {
  const errors = Object.entries<Row>(ERRORS).map(
    ([code, { meaning, retryable, http, close }]) =>
      `| \`${code}\` | ${http} | ${close ?? ''} | ${retryable ? 'yes' : 'no'} | ${meaning} |`,
  );
  const closes = Object.entries(CLOSE_CODES).map(
    ([code, { name, meaning, reconnect }]) => `| ${code} | ${name} | ${reconnect ? 'yes' : 'no'} | ${meaning} |`,
  );
  return `# Errors and close codes

Generated from \`libs/protocol/src/errors.ts\`; do not edit.

Branch on codes, never on texts: a text says what was received and what to do about it, and may change.

## Errors

Over HTTP the answer is \`{"error":"<text>","code":"<code>","retryable":<boolean>}\` with the status below. Over \`/ws\`
it is an \`error\` message with \`error\` and \`code\`; a code with a close code can also end the connection. *Again* says
whether the same request may succeed later, unchanged.

| code | HTTP | closes with | again | meaning |
|---|---|---|---|---|
${errors.join('\n')}

## Close codes

What a gateway's WebSocket may be closed with. *Reconnect* says whether a client should connect again by itself, after
a delay that grows and has some chance in it.

| code | name | reconnect | meaning |
|---|---|---|---|
${closes.join('\n')}
`;
}
