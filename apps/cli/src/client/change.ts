/** One change of something that is watched. */
export interface Change<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** As it is now; as it last was when it is no more. */
  readonly object: T;
}
