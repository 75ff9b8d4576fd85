#!/usr/bin/env node
// Beside dist/, so that `npm ci` can link the command before anything is built.
await import('../dist/main.js');
