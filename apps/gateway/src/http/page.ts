/** The one web page that a gateway may serve, and what its browser is told about it. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Answer } from './exchange.js';

const INLINE_SCRIPT = /<script>([\s\S]*?)<\/script>/g;

/**
 * Reads the page. Its own inline scripts may run, by their hashes, and nothing else: output that ends up as markup stays
 * without effect. Throws an Error that names the file.
 */
export async function loadPage(path: string): Promise<Answer> {
  let html: string;
  try {
    html = await readFile(path, 'utf8');
  } catch (cause) {
    throw new Error(`The page ${path} (--page) cannot be read: ${String(cause)}`, { cause });
  }
  const policy = [
    "default-src 'none'",
    `script-src 'self' ${scriptHashes(html)}`,
    // Hashes do not cover style attributes, and styles run nothing.
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    // The page may be pointed at another gateway.
    "connect-src 'self' ws: wss: http: https:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return {
    status: 200,
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-cache',
      'Content-Security-Policy': policy.map((part) => part.trim()).join('; '),
    },
    body: html,
  };
}

/** Browsers hash the text with line breaks as `\n`. */
function scriptHashes(html: string): string {
  const texts = [...html.replaceAll('\r\n', '\n').matchAll(INLINE_SCRIPT)].map((match) => match[1] ?? '');
  return texts.map((text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`).join(' ');
}
