// Tool calls in a model's finished answer, in both spellings of the family:
//
//   <tool_call>                                   <tool_call>
//   {"name": "f", "arguments": {"x": 1}}          <function=f>
//   </tool_call>                                  <parameter=x>
//                                                 1
//                                                 </parameter>
//                                                 </function>
//                                                 </tool_call>
//
// Which one is found out per call. Models make mistakes, so the parser is lenient: the opening <tool_call> may be
// missing before <function=, the closing tags at the end of the text too; <parameter=k> may end at the next <parameter=
// or </function>. A block from which no call can be read stays in the content, so nothing the model wrote is lost.
#ifndef SLUICE_TEXT_TOOLCALL_H
#define SLUICE_TEXT_TOOLCALL_H

#include <jansson.h>
#include <stddef.h>

#include "runtime/base/status.h"

// Splits `bytes` bytes of an answer (any bytes; without the thinking part) into text and calls.
//   tools      the request's tools as chat_render takes them, or NULL: their declared types decide how the XML-like
//              spelling's parameters become JSON (string: as is; other types: parsed, and a string if that fails;
//              without a declaration: a string)
//   *content   the text outside the calls, white space at its end removed if there are calls; the caller's (mem_free),
//              NUL-terminated
//   *calls     a new array of {"name": string, "arguments": object}, empty if there are none; the caller's, release
//              with json_decref
// Errors: MEMORY.
enum sluice_status toolcall_parse(const char *text, size_t bytes, const json_t *tools, char **content,
                                  size_t *content_bytes, json_t **calls);

#endif
