/**
 * The program that a shell on another machine runs for us, where nothing of ours is installed: it answers questions
 * about one file, and the blobs beside it, with the tools that POSIX has everywhere. It only reads.
 *
 * It goes to the shell by standard input, after `ssh host 'exec sh'`: the login shell, whichever it is, sees two
 * words, and sh alone reads the program. All of it is one function, so the shell has read it to the end before it
 * runs, and what we say later is read by its `read`.
 *
 * A question is a line. Its answer is any number of bytes and then a line that begins with a mark that no file can
 * hold, for it is drawn anew each time: no length is promised that a file which shrinks meanwhile could break, and
 * what a login shell prints before is no more than bytes before the first such line.
 *
 * | question          | bytes                | words behind the mark                                       |
 * | ----------------- | -------------------- | ----------------------------------------------------------- |
 * | (at the start)    | any                  | `hello VERSION TOOL`: of zrs (`none`, or `other`: not ours), for digests |
 * | `look`            | none                 | `found INODE SIZE`                                          |
 * | `sync`            | none                 | `synced`, once the file is on disk there                    |
 * | `read INODE S N`  | blocks S to S + N    | `read INODE SIZE`, as found afterwards                      |
 * | `digest INODE S N`| what the tool prints | `digested`                                                  |
 * | `layout`          | of the marker's file | `layout marked`, or `unmarked`, `empty`, `missing`, `denied` |
 * | `sizes N`         | N lines              | `blobs`                                                     |
 * | `blobs N`         | N lines, each with a file's bytes and a line feed behind it | `blobs`              |
 * | `zrs`             | the native stream    | none                                                        |
 *
 * Behind `sizes` and `blobs` follow N lines with the names of files in the blob directory. Each gets a line of its own
 * in the answer: the mark, `-file`, and the file's size, or `missing` or `denied`, without bytes then.
 *
 * or, in place of any: `fail KIND REASON`, where KIND is missing, directory, special, denied, replaced or trouble.
 */

/** What positions and lengths are counted in: dd reaches whole blocks only, and large ones at the disk's speed. */
export const BLOCK_BYTES = 64 * 1024;

/** Stands for the path among arguments: only the shell there knows it, where it begins with a home directory. */
export const FAR_PATH = Symbol("path");

/**
 * What zrs there is started with, to speak the native stream over its standard input and output. A path there may
 * begin with a home directory, as that of the file.
 */
export type ZrsArguments = readonly (string | typeof FAR_PATH | { readonly path: string })[];

export interface FarProgramOptions {
  /** The file, relative to the home directory unless it begins with a `/`; `~` and `~user` may begin it. */
  readonly path: string;
  /** Begins the lines that are ours: letters and digits that nothing else can be. */
  readonly mark: string;
  /** The name or path of zrs there. */
  readonly zrs: string;
  /** The blob directory there, as the file; undefined where nobody asks for blobs. */
  readonly blobs?: string | undefined;
  readonly zrsArguments: ZrsArguments;
}

/** The program's text. It ends with the line that runs it. */
export function farProgram({ path, mark, zrs, blobs, zrsArguments }: FarProgramOptions): string {
  // Assigned bit by bit: a shell that shows what it reads, or fails to, does not show a line with the mark.
  return `zrs_far() {
LC_ALL=C; export LC_ALL; set -f
path=${quotePath(path)}
zrs=${quotePath(zrs)}
blobs=${quotePath(blobs ?? "")}
mark=${mark}
nl='
'
say() { printf '\\n%s %s\\n' "$mark" "$*"; }
look() {
  if [ -d "$path" ]; then kind=directory reason='it is a directory'; return 1; fi
  if found=$(ls -dinL "$path" 2>&1 </dev/null); then :; else
    reason=\${found##*: }; reason=\${reason%%"$nl"*}
    case $reason in *ermission*) kind=denied ;; *o\\ such*|*ot\\ a\\ dir*) kind=missing ;; *) kind=trouble ;; esac
    return 1
  fi
  if [ ! -f "$path" ]; then kind=special reason='it is not a regular file'; return 1; fi
  if [ ! -r "$path" ]; then kind=denied reason='Permission denied'; return 1; fi
  set -- $found
  inode=$1 size=$6
}
same() {
  look || return 1
  if [ "$inode" != "$1" ]; then kind=replaced reason="inode $inode"; return 1; fi
}
failed() { say fail "$kind" "$reason"; }
blocks() { dd bs=${BLOCK_BYTES} skip="$1" count="$2" <&3; }
read_blocks() {
  if same "$1"; then :; else failed; return; fi
  if { error=$(blocks "$2" "$3" 2>&1 >&4); } 4>&1; then :; else
    reason=\${error##*: }; kind=trouble reason=\${reason%%"$nl"*}; failed; return
  fi
  if look; then say read "$inode" "$size"; else failed; fi
}
digest_blocks() {
  if same "$1"; then :; else failed; return; fi
  blocks "$2" "$3" 2>/dev/null | $tool; say digested
}
layout() {
  if [ ! -d "$blobs" ]; then say layout missing; return; fi
  if [ ! -r "$blobs" ] || [ ! -x "$blobs" ]; then say layout denied; return; fi
  if [ -f "$blobs/.layout" ]; then
    dd bs=64 count=1 2>/dev/null <"$blobs/.layout"; say layout marked; return
  fi
  if [ -z "$(ls "$blobs" 2>/dev/null </dev/null | head -n 1)" ]; then say layout empty
  else say layout unmarked; fi
}
size_of() {
  if [ ! -f "$blobs/$1" ]; then size=missing; return 1; fi
  if [ ! -r "$blobs/$1" ]; then size=denied; return 1; fi
  set -- $(ls -dnL "$blobs/$1" 2>/dev/null </dev/null)
  size=\${5:-missing}
}
each_blob() {
  left=$2
  while [ "\${left:-0}" -gt 0 ] && read -r name; do
    left=$((left - 1))
    if size_of "$name"; then wanted=$1; else wanted=none; fi
    printf '%s-file %s\\n' "$mark" "$size"
    if [ "$wanted" = blobs ]; then cat "$blobs/$name" 2>/dev/null </dev/null; echo; fi
  done
  say blobs
}
tool=none
for each in 'openssl dgst -sha256' sha256sum 'shasum -a 256' 'sha256 -q' md5sum 'md5 -q'; do
  sum=$($each </dev/null 2>/dev/null) || continue
  case $sum in *e3b0c44298fc1c14*|*d41d8cd98f00b204*) tool=$each; break ;; esac
done
version=none
if command -v "$zrs" >/dev/null 2>&1; then
  version=$("$zrs" --version 2>/dev/null </dev/null)
  case $version in *"$nl"*) version=other ;; 'zrs '[0-9]*) version=\${version#zrs } ;; *) version=other ;; esac
  version=\${version%%[!0-9a-zA-Z.+-]*}
fi
say hello "$version" "$tool"
while read -r verb one two three; do
  case $verb in
  look) if look; then say found "$inode" "$size"; else failed; fi ;;
  sync)
    if sync "$path" >/dev/null 2>&1 </dev/null; then say synced
    else say fail trouble 'the sync there failed'; fi ;;
  read|digest)
    if { "$verb"_blocks "$one" "$two" "$three"; } 3<"$path"; then :; else
      kind=trouble reason='it could not be opened'; look; failed
    fi ;;
  layout) layout ;;
  sizes|blobs) each_blob "$verb" "$one" ;;
  zrs) exec "$zrs" ${zrsArguments.map(quoteArgument).join(" ")} ;;
  *) say fail trouble "unknown question $verb" ;;
  esac
done
}
zrs_far; exit
`;
}

/** A word that a shell takes as it is. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function quoteArgument(argument: ZrsArguments[number]): string {
  if (argument === FAR_PATH) return '"$path"';
  return typeof argument === "string" ? quote(argument) : quotePath(argument.path);
}

/** A path that no command takes for an option; a home directory in front is left for the shell to find. */
function quotePath(path: string): string {
  const home = /^~[\w.-]*(?:\/|$)/.exec(path)?.[0];
  if (home !== undefined) return `${home}${quote(path.slice(home.length))}`; // a quoted slash would hide the home
  return quote(path.startsWith("-") ? `./${path}` : path);
}
