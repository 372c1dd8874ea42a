/** The class of an object by the first of the two pickles that its data record holds. */
import { PickleError } from "../errors.ts";
import { PickleMachine } from "./machine.ts";
import { PyGlobal, PyText, PyTuple, type Value } from "./value.ts";

/**
 * The class as `module.name`. ZODB writes the class alone, or in a tuple with arguments; old versions wrote the
 * two names as texts.
 * @param data the record's data, or as much of its beginning as there is
 * @returns undefined when that cannot be told: it is no pickle, or is cut off before the first has ended
 */
export function recordClass(data: Uint8Array): string | undefined {
  try {
    return classOf(new PickleMachine(data, 0, data.length).run());
  } catch (error) {
    if (error instanceof PickleError) return undefined;
    throw error;
  }
}

function classOf(value: Value): string | undefined {
  if (value instanceof PyGlobal) return `${value.module}.${value.name}`;
  if (!(value instanceof PyTuple)) return undefined;
  const [first] = value.items;
  if (first instanceof PyGlobal) return classOf(first);
  if (!(first instanceof PyTuple) || first.items.length !== 2) return undefined;
  const [module, name] = first.items;
  return module instanceof PyText && name instanceof PyText ? `${module}.${name}` : undefined;
}
