/** Flags of the verbs that read manifests. */
import { defineSchema, formats } from '@carrierarr/platform/light';

export const filesSchema = defineSchema({
  filename: {
    doc: 'A file with resources (YAML with several documents, or JSON), a folder of such files, or - for standard input. May be repeated.',
    format: formats.listOf(formats.filePath),
    default: '',
    aliases: ['f'],
    env: null,
  },
});
