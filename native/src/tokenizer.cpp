#include "tokenizer.h"

#include <stdexcept>
#include <utility>

namespace ernie {
namespace {

// What to do with a character. The action is in the lowest three bits, its operand in the bits above.
enum Action : std::uint32_t {
    kDrop,       // remove it
    kSpace,      // end the word
    kAlone,      // a word of one character; the operand is its id
    kBracket,    // like kAlone, but a special token may begin here
    kAppend,     // append it to the word; the operand is the normalised character
    kNormalise,  // it becomes several characters, or combining characters may have to be reordered
};
constexpr int kActionBits = 3;
constexpr std::uint32_t encode(Action action, std::uint32_t operand = 0) { return operand << kActionBits | action; }

constexpr int kLongestNormalised = unicode::kLongestDecomposition * unicode::kLongestLower;

std::size_t table_size(std::size_t entries) {
    std::size_t size = 16;
    while (size < 2 * entries) size *= 2;
    return size;
}

std::size_t total_length(const std::vector<std::u32string>& tokens) {
    std::size_t total = 0;
    for (const auto& token : tokens) total += token.size();
    return total;
}

}  // namespace

PieceTrie::PieceTrie(std::size_t characters)
    : edges_(table_size(characters), Edge{0, 0, 0, ErnieTokenizer::kNone}), mask_(edges_.size() - 1) {}

void PieceTrie::insert(const std::u32string& token, std::int32_t id) {
    const bool continuation = token.size() > 2 && token.compare(0, 2, U"##") == 0;
    std::uint32_t node = continuation ? kContinuation : kWordStart;
    Edge* edge = nullptr;
    for (std::size_t index = continuation ? 2 : 0; index < token.size(); ++index) {
        std::size_t at = slot(node, token[index]);
        while (edges_[at].parent != 0 && (edges_[at].parent != node || edges_[at].character != token[index]))
            at = (at + 1) & mask_;
        edge = &edges_[at];
        if (edge->parent == 0) *edge = Edge{node, token[index], nodes_++, ErnieTokenizer::kNone};
        node = edge->child;
    }
    edge->id = id;
}

// The normalised characters of the current word, and the position in the text from which each comes.
struct ErnieTokenizer::Word {
    char32_t characters[kLongestWord];
    std::int32_t positions[kLongestWord];
    std::size_t length = 0;  // may exceed kLongestWord; further characters are not stored
    std::size_t floor = 0;   // index before which no combining character may move
    std::int32_t last_position = 0;

    void append(char32_t character, std::size_t position) {
        last_position = static_cast<std::int32_t>(position);
        if (length < kLongestWord) {
            characters[length] = character;
            positions[length] = last_position;
        }
        ++length;
    }

    // Canonical ordering of the combining characters that are not removed: those with a lower class come first. The
    // positions are not reordered, so they stay ascending.
    void append_in_order(char32_t character, std::size_t position) {
        append(character, position);
        const int own = unicode::character(character).combining_class;
        if (own == 0 || length > kLongestWord) return;
        for (std::size_t at = length - 1; at > floor; --at) {
            if (unicode::character(characters[at - 1]).combining_class <= own) return;
            std::swap(characters[at - 1], characters[at]);
        }
    }

    void clear() { length = floor = 0; }
};

ErnieTokenizer::ErnieTokenizer(std::vector<std::u32string> tokens, Options options)
    : tokens_(std::move(tokens)), options_(options), trie_(total_length(tokens_)) {
    for (std::size_t index = 0; index < tokens_.size(); ++index) {
        if (tokens_[index].empty()) throw std::invalid_argument("token " + std::to_string(index) + " is empty.");
        ids_[tokens_[index]] = static_cast<std::int32_t>(index);
        trie_.insert(tokens_[index], static_cast<std::int32_t>(index));
    }
    const std::pair<const char32_t*, std::int32_t*> named[] = {
        {U"[PAD]", &pad}, {U"[CLS]", &cls}, {U"[SEP]", &sep}, {U"[MASK]", &mask}, {U"[UNK]", &unknown}};
    for (const auto& [name, id_here] : named) {
        *id_here = id(name);
        if (*id_here != kNone) specials_.push_back({name, *id_here});
    }
    for (const auto& [name, id_here] : {std::pair{"[CLS]", cls}, {"[SEP]", sep}, {"[UNK]", unknown}})
        if (id_here == kNone) throw std::invalid_argument(std::string("the vocabulary has no ") + name + ".");
    std::vector<std::uint32_t> actions(0x10000);
    for (char32_t character = 0; character < actions.size(); ++character) actions[character] = classify(character);
    actions_ = std::move(actions);
}

std::int32_t ErnieTokenizer::id(const std::u32string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? kNone : found->second;
}

std::int32_t ErnieTokenizer::id_of_single(char32_t character) const {
    const PieceTrie::Edge* edge = trie_.find(PieceTrie::kWordStart, character);
    return edge && edge->id != kNone ? edge->id : unknown;
}

// Folds, decomposes and lower-cases a character, as the options say; combining marks are not removed.
int ErnieTokenizer::normalise(char32_t character, char32_t* out) const {
    if (options_.fold_width) character = unicode::fold_width(character);
    char32_t decomposed[unicode::kLongestDecomposition] = {character};
    const int count = options_.strip_accents ? unicode::decompose(character, decomposed) : 1;
    int length = 0;
    for (int index = 0; index < count; ++index) {
        if (options_.lower_case) {
            length += unicode::lower(decomposed[index], out + length);
        } else {
            out[length++] = decomposed[index];
        }
    }
    return length;
}

std::uint32_t ErnieTokenizer::classify(char32_t character) const {
    const unicode::Character& known = unicode::character(character);
    if (known.kind == unicode::kControl) return encode(kDrop);
    if (known.kind == unicode::kSpace) return encode(kSpace);
    char32_t normalised[kLongestNormalised];
    int length = 0;
    for (int index = 0, count = normalise(character, normalised); index < count; ++index) {
        const unicode::Character& part = unicode::character(normalised[index]);
        if (!options_.strip_accents) {
            ++length;
        } else if (part.kind != unicode::kMark) {
            if (part.combining_class != 0) return encode(kNormalise);
            normalised[length++] = normalised[index];
        } else if (part.combining_class == 0) {
            return encode(kNormalise);  // the mark is removed, but no character may be reordered across it
        }
    }
    if (length == 0) return encode(kDrop);
    if (length > 1) return encode(kNormalise);
    if (character == U'[') return encode(kBracket, id_of_single(character));
    const bool alone = (options_.split_cjk && unicode::is_cjk(character)) ||
                       is_alone(unicode::character(normalised[0]));
    return alone ? encode(kAlone, id_of_single(normalised[0])) : encode(kAppend, normalised[0]);
}

template <class Character>
const ErnieTokenizer::Special*
ErnieTokenizer::special_at(const Character* text, std::size_t length, Specials specials) const {
    if (specials == Specials::kNone) return nullptr;
    for (const Special& special : specials_) {
        if (specials == Specials::kMask && special.id != mask) continue;
        if (special.text.size() > length) continue;
        std::size_t same = 0;
        while (same < special.text.size() && text[same] == special.text[same]) ++same;
        if (same == special.text.size()) return &special;
    }
    return nullptr;
}

// Splits the word by greedy longest match. It becomes one [UNK] if that fails or if the word is too long.
template <class Sink> void ErnieTokenizer::finish(Word& word, Sink& sink) const {
    if (word.length == 0) return;
    const std::size_t first = sink.size();
    std::uint32_t root = PieceTrie::kWordStart;
    bool known = word.length <= kLongestWord;
    for (std::size_t begin = 0; known && begin < word.length; root = PieceTrie::kContinuation) {
        std::size_t end = begin;
        std::int32_t piece = kNone;
        std::uint32_t node = root;
        for (std::size_t at = begin; at < word.length; ++at) {
            const PieceTrie::Edge* edge = trie_.find(node, word.characters[at]);
            if (!edge) break;
            node = edge->child;
            if (edge->id != kNone) {
                piece = edge->id;
                end = at + 1;
            }
        }
        known = piece != kNone;
        if (known) sink.append(piece, word.positions[begin], word.positions[end - 1] + 1);
        begin = end;
    }
    if (!known) {
        sink.shrink(first);
        sink.append(unknown, word.positions[0], word.last_position + 1);
    }
    word.clear();
}

template <class Sink>
void ErnieTokenizer::add_normalised(char32_t character, std::size_t position, Word& word, Sink& sink) const {
    const bool alone = options_.split_cjk && unicode::is_cjk(character);
    if (alone) finish(word, sink);
    char32_t normalised[kLongestNormalised];
    for (int index = 0, length = normalise(character, normalised); index < length; ++index) {
        const unicode::Character& part = unicode::character(normalised[index]);
        if (is_alone(part)) {
            finish(word, sink);
            word.append(normalised[index], position);
            finish(word, sink);
        } else if (part.kind != unicode::kMark || !options_.strip_accents) {
            if (options_.strip_accents) {
                word.append_in_order(normalised[index], position);
            } else {
                word.append(normalised[index], position);
            }
        } else if (part.combining_class == 0) {
            word.floor = word.length;
        }
    }
    if (alone) finish(word, sink);
}

template <class Character, class Sink>
void ErnieTokenizer::scan(const Character* text, std::size_t length, Specials specials, Sink& sink) const {
    Word word;
    for (std::size_t position = 0; position < length; ++position) {
        const char32_t character = text[position];
        const std::uint32_t found = action(character);
        const std::uint32_t operand = found >> kActionBits;
        const auto here = static_cast<std::int32_t>(position);
        switch (found & ((1 << kActionBits) - 1)) {
            case kDrop: break;
            case kSpace: finish(word, sink); break;
            case kBracket:
                if (const Special* written = special_at(text + position, length - position, specials)) {
                    finish(word, sink);
                    position += written->text.size() - 1;
                    sink.append(written->id, here, static_cast<std::int32_t>(position + 1));
                    break;
                }
                [[fallthrough]];
            case kAlone:
                finish(word, sink);
                sink.append(static_cast<std::int32_t>(operand), here, here + 1);
                break;
            case kAppend: word.append(operand, position); break;
            default: add_normalised(character, position, word, sink);
        }
    }
    finish(word, sink);
}

template <class Sink> void ErnieTokenizer::tokenize_any(const Text& text, Specials specials, Sink& sink) const {
    switch (text.width) {
        case 1: return scan(static_cast<const std::uint8_t*>(text.characters), text.length, specials, sink);
        case 2: return scan(static_cast<const std::uint16_t*>(text.characters), text.length, specials, sink);
        default: return scan(static_cast<const std::uint32_t*>(text.characters), text.length, specials, sink);
    }
}

void ErnieTokenizer::tokenize(const Text& text, Specials specials, Tokens& tokens) const {
    tokenize_any(text, specials, tokens);
}

void ErnieTokenizer::tokenize(const Text& text, Specials specials, SpannedTokens& tokens) const {
    tokenize_any(text, specials, tokens);
}

}  // namespace ernie
