/**
 * The id of the record of a target that its script speaks for: the target itself, as clients know it. A target may be
 * called as a cloud calls its machines, though, and that cloud may show the machine as well: records are kept by id, and
 * each must stay that of its own source.
 */

/** As EC2 names instances and ECS names tasks, and what is made out of those here. */
const OTHERS_IDS = /^(i-[0-9a-f]+$|arn:|script\/)/;

/** No two targets have one id, and none has that of a cloud's machine. */
export function scriptIdOf(target: string): string {
  return OTHERS_IDS.test(target) ? `script/${target}` : target;
}
