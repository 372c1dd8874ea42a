/**
 * TypeScript source with its comments, or also its strings, blanked out, so that a rule can look for words in
 * code. A scanner for that alone: it knows where comments, strings, templates and regular expressions end.
 */

export interface SplitSource {
  /** The source with comments replaced by blanks. */
  readonly withoutComments: string;
  /** The same, with the contents of strings, templates (not of their `${}`) and regular expressions blanked. */
  readonly codeOnly: string;
}

/** After these words a slash begins a regular expression; after other words and values it divides. */
const BEFORE_REGEX = /(?:^|[^\w$.])(?:return|typeof|case|in|of|do|else|void|delete|throw|new|await|yield)$/;

/** Both texts have the length and the lines of the source. */
export function splitSource(source: string): SplitSource {
  return new Scanner(source).run();
}

class Scanner {
  readonly #source: string;
  #at = 0;
  #withoutComments = "";
  #codeOnly = "";
  /** The braces open around us: of code, or of a template's `${`. */
  readonly #braces: ("code" | "template")[] = [];

  constructor(source: string) {
    this.#source = source;
  }

  run(): SplitSource {
    while (this.#at < this.#source.length) this.#step();
    return { withoutComments: this.#withoutComments, codeOnly: this.#codeOnly };
  }

  #step(): void {
    const rest = this.#source.slice(this.#at, this.#at + 2);
    const character = rest[0]!;
    if (rest === "//") this.#comment(this.#find("\n", 0));
    else if (rest === "/*") this.#comment(this.#find("*/", 2));
    else if (character === '"' || character === "'") this.#literal(this.#endOfString(character));
    else if (character === "`") this.#template();
    else if (character === "/" && this.#isRegexAhead()) this.#literal(this.#endOfRegex());
    else if (character === "}" && this.#braces.pop() === "template") this.#template();
    else {
      if (character === "{") this.#braces.push("code");
      this.#copy(1);
    }
  }

  /** Where `text` ends next, or the source does; a line's end stays outside its comment. */
  #find(text: string, ahead: number): number {
    const found = this.#source.indexOf(text, this.#at + ahead);
    if (found === -1) return this.#source.length;
    return text === "\n" ? found : found + text.length;
  }

  #endOfString(quote: string): number {
    let at = this.#at + 1;
    while (at < this.#source.length && this.#source[at] !== quote) at += this.#source[at] === "\\" ? 2 : 1;
    return at + 1;
  }

  #endOfRegex(): number {
    let inClass = false;
    for (let at = this.#at + 1; at < this.#source.length; at++) {
      const character = this.#source[at];
      if (character === "\\") at++;
      else if (character === "[") inClass = true;
      else if (character === "]") inClass = false;
      else if (character === "/" && !inClass) return at + 1;
    }
    return this.#source.length;
  }

  #isRegexAhead(): boolean {
    const before = this.#codeOnly.trimEnd();
    return before === "" || /[([{,;:=!&|?+\-*%^~<>}]$/.test(before) || BEFORE_REGEX.test(before.slice(-12));
  }

  /** From a backtick, or from the brace that ends an expression, to the next expression or the end. */
  #template(): void {
    let at = this.#at + 1;
    while (at < this.#source.length && this.#source[at] !== "`" && !this.#source.startsWith("${", at)) {
      at += this.#source[at] === "\\" ? 2 : 1;
    }
    const opens = this.#source.startsWith("${", at);
    if (opens) this.#braces.push("template");
    this.#literal(at + (opens ? 2 : 1));
  }

  #copy(length: number): void {
    const text = this.#source.slice(this.#at, this.#at + length);
    this.#withoutComments += text;
    this.#codeOnly += text;
    this.#at += length;
  }

  #comment(end: number): void {
    const blank = blankOf(this.#source.slice(this.#at, end));
    this.#withoutComments += blank;
    this.#codeOnly += blank;
    this.#at = end;
  }

  /** Keeps the first and last character: a string is still a value to what follows. */
  #literal(end: number): void {
    const text = this.#source.slice(this.#at, end);
    this.#withoutComments += text;
    this.#codeOnly += text.length < 2 ? text : text[0] + blankOf(text.slice(1, -1)) + text.at(-1);
    this.#at = end;
  }
}

function blankOf(text: string): string {
  return text.replace(/[^\n]/g, " ");
}
