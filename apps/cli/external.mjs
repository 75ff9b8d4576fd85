/** Packages that are not in the files of `carrierarr`, but beside them in node_modules. */
export const EXTERNAL = [
  // Binaries.
  'uWebSockets.js',
  'msgpackr-extract',
  // They read files of theirs.
  '@grpc/grpc-js',
  '@grpc/proto-loader',
  '@grpc/reflection',
  'grpc-health-check',
];
