/** What the guides say is so. In a file of its own, so that both can be followed at once. */
import { followPages } from '../support/follow-pages.js';
import { isGuide } from '../support/documents.js';

followPages(isGuide);
