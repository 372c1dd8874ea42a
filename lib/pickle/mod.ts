/**
 * Python's pickles, read without executing anything and written as ZODB and zc.zrs write them
 * (docs/zrs_protocol.md, "Pickles" and "The extension").
 */
export {
  BYTES_BACK,
  BYTES_FRONT,
  bytesFormRoom,
  NO_BYTES,
  putBytesForm,
  putLatin1AsUtf8,
  putU32,
} from "./bytes_form.ts";
export { decodePickle } from "./decoder.ts";
export { encodePickle } from "./encoder.ts";
export { encodeProtocol3 } from "./protocol3.ts";
export {
  type Carriage,
  extensionOfTuple,
  extensionToSend,
  extensionToStore,
  type ReceivedExtension,
} from "./extension.ts";
export { isAscii } from "./literals.ts";
export { latin1OfUtf8 } from "./names.ts";
export { PickleLimitError } from "./limits.ts";
export { PickleMachine } from "./machine.ts";
export { recordClass } from "./record_class.ts";
export { ReferenceScanner } from "./references.ts";
export { PyDict, PyGlobal, PyList, PyObject, PyText, PyTuple, type Value } from "./value.ts";
