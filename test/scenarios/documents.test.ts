/** What README, tutorials and all other pages say that are no guides is so. */
import { followPages } from '../support/follow-pages.js';
import { isGuide } from '../support/documents.js';

followPages((path) => !isGuide(path));
