/** What follows from one look. */
export interface StepResult {
  /** What was decided on had changed: look again at once. */
  again?: true;
  /** Look again after this long at the latest, ms. */
  requeueAfterMs?: number;
}
