/**
 * What a call must pass before anything of its message is read. gRPC knows one size for all messages, that of output, and asks
 * nobody before it holds a whole one: whoever reaches the port, and shows no token, could have a monitor hold gigabytes.
 */
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type StatusObject,
} from '@grpc/grpc-js';

/** Of a registration, of which a machine says most: many times what is kept of it, bytes. */
export const REQUEST_BYTES_MAX = 512 * 1024;
/** Of questions that everybody may ask, of health and reflection: names. */
export const PUBLIC_BYTES_MAX = 8 * 1024;

export interface CallGateOptions {
  /** Paths of the calls whose callers must be let in. */
  guarded: ReadonlySet<string>;
  /** Path of the stream, which is let in where it is handled, also before its messages are read. It may say more. */
  stream: string;
  /** Why a caller is refused. */
  refusalOf: (metadata: Metadata, peer: string) => Pick<StatusObject, 'code' | 'details'> | undefined;
}

export function callGate({ guarded, stream, refusalOf }: CallGateOptions): ServerInterceptor {
  return ({ path }, call) => {
    // Nothing stands between the stream and its messages.
    if (path === stream) return call as ServerInterceptingCall;
    const isGuarded = guarded.has(path);
    boundMessages(call, isGuarded ? REQUEST_BYTES_MAX : PUBLIC_BYTES_MAX);
    if (!isGuarded) return call as ServerInterceptingCall;
    return new ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, go) {
            const refusal = refusalOf(metadata, call.getPeer());
            if (refusal === undefined) go(metadata);
            else call.sendStatus(refusal);
          },
        });
      },
    });
  };
}

/** grpc-js 1.14 has the bound of a call in the decoder of its messages, and no other way to it. */
function boundMessages(call: ServerInterceptingCallInterface, bytesMax: number): void {
  const { decoder } = call as unknown as { decoder: { maxReadMessageLength: number } };
  decoder.maxReadMessageLength = Math.min(decoder.maxReadMessageLength, bytesMax);
}
