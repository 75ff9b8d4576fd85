/** A promise was broken: the simulation ends with this. */
export class Broken extends Error {}
