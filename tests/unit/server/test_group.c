/* What a directory says against what the options ask for; and that an agreement outlives a crash. */
#include "peer_kit.h"

#include <stdlib.h>

#include "disk/group_file.h"
#include "disk/identity.h"
#include "server/group.h"

struct place {
    struct kit kit;
    struct group_options options;
    char dir[64];
};

static void place_begin(struct place *p)
{
    *p = (struct place){ .dir = "/tmp/cordis-group-XXXXXX" };
    assert_non_null(mkdtemp(p->dir));
    kit_begin(&p->kit);
    kit_end(&p->kit, NULL, false);
    p->options = (struct group_options){
        .dir = p->dir, .name = "n1", .initial_cluster = "", .join = "", .password = "",
        .peer_address = "h:7380", .client_address = "h:7379", .random = { 1, 2, 3 }, .group = 1,
    };
}

static void place_end(struct place *p)
{
    kit_finish(&p->kit);
    static const char *const names[] = { "identity", "group", "LOCK", "stranger" };
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", p->dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(p->dir), 0);
}

static enum err look(struct place *p, struct group **out, struct errmsg *em)
{
    return group_new(&p->options, p->kit.ends[0].peers, kit_mono_ms(), out, em);
}

/* group_new and group_turn are expected to give these. */
static struct group *must_look(struct place *p, enum err turn)
{
    struct group *g = NULL;
    struct errmsg em = { "" };
    if (look(p, &g, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(group_turn(g, kit_mono_ms(), &em), turn);
    return g;
}

static void save_identity(struct place *p, bool ready)
{
    struct identity id = { 100, 200, 300, 1, ready };
    struct errmsg em;
    assert_int_equal(identity_save(disk_io_posix(), p->dir, &id, &em), OK);
}

static void save_record(struct place *p, enum group_way way, uint64_t directory_id)
{
    struct group_record r = { way, 555, 200, directory_id, { 0 } };
    struct raft_members m = { .count = 0 };
    struct raft_member self = { .id = 200, .directory_id = directory_id, .role = RAFT_VOTER,
                                .name = "n1", .peer_address = "h:7380" };
    assert_int_equal(raft_members_put(&m, &self), OK);
    raft_members_encode(&r.members, &m);
    struct errmsg em;
    assert_int_equal(group_file_save(disk_io_posix(), p->dir, &r, &em), OK);
    group_record_deinit(&r);
}

static void test_without_options_node_makes_a_group_of_one(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p);
    struct group *g = must_look(&p, OK);
    struct node_group out;
    group_take(g, &out);
    assert_int_equal(out.member_id, 0);
    group_free(g);
    struct identity id;
    struct errmsg em;
    assert_int_equal(identity_load(disk_io_posix(), p.dir, &id, &em), ERR_NOT_FOUND);
    place_end(&p);
}

static void test_a_list_of_one_is_founded_and_kept(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p);
    p.options.initial_cluster = "n1=h:7380";
    struct node_group first, second;
    for (int round = 0; round < 2; round++) { /* a crash before the node was opened */
        struct group *g = must_look(&p, OK);
        struct node_group *out = round == 0 ? &first : &second;
        group_take(g, out);
        assert_non_null(out->members);
        assert_int_equal(out->members->count, 1);
        assert_int_equal(out->members->at[0].id, out->member_id);
        assert_int_equal(out->members->at[0].directory_id, out->directory_id);
        assert_string_equal(out->members->at[0].client_address, "h:7379");
        group_free(g);
        p.options.initial_cluster = ""; /* and without the option */
        p.options.client_address = "other:1";
    }
    assert_int_equal(first.cluster_id, second.cluster_id);
    assert_int_equal(first.member_id, second.member_id);
    assert_int_equal(first.directory_id, second.directory_id);
    place_end(&p);
}

static void test_ids_stay_while_it_waits(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p);
    p.options.initial_cluster = "n1=127.0.0.1:1,n2=127.0.0.1:2";
    struct identity ids[2];
    for (int round = 0; round < 2; round++) {
        struct group *g = must_look(&p, ERR_AGAIN);
        char names[32];
        assert_string_equal(group_waits_for(g, names, sizeof names), "n2");
        assert_true(group_next_ms(g) < INT64_MAX);
        struct group *other = NULL;
        struct errmsg em;
        assert_int_equal(look(&p, &other, &em), ERR_LOCKED);
        group_free(g);
        assert_int_equal(identity_load(disk_io_posix(), p.dir, &ids[round], &em), OK);
        p.options.random[0] += 10;
        p.options.random[1] += 10;
        p.options.random[2] += 10;
    }
    assert_false(ids[0].ready);
    assert_int_equal(ids[0].member_id, ids[1].member_id);
    assert_int_equal(ids[0].directory_id, ids[1].directory_id);
    place_end(&p);
}

static void test_a_directory_that_belongs_to_a_group_stays_there(void **state)
{
    (void)state;
    static const char *const lists[] = { "n1=h:7380", "n1=h:1,n2=h:2", "nonsense", "" };
    struct place p;
    place_begin(&p);
    save_identity(&p, true);
    for (size_t i = 0; i < 2 * ARRAY_LEN(lists); i++) {
        if (i == ARRAY_LEN(lists)) save_record(&p, GROUP_FOUNDED, 300);
        p.options.initial_cluster = lists[i % ARRAY_LEN(lists)];
        p.options.join = i % 2 == 0 ? "" : "h:7379";
        struct group *g = must_look(&p, OK);
        group_free(g);
    }
    place_end(&p);
}

static void test_who_was_let_in_goes_on_without_asking_again(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p);
    save_identity(&p, false);
    save_record(&p, GROUP_JOINED, 300);
    p.options.join = "127.0.0.1:1";
    struct group *g = must_look(&p, OK);
    struct node_group out;
    group_take(g, &out);
    assert_int_equal(out.cluster_id, 555);
    assert_int_equal(out.member_id, 200);
    assert_null(out.members);
    assert_int_equal(group_first_members(g)->count, 1);
    group_free(g);
    place_end(&p);
}

static void test_a_name_has_to_fit_a_new_directory(void **state)
{
    (void)state;
    static const char *const names[] = {
        "n 2", "n\"2", "n\\2", "n\n2", "z\xc3\xbcrich",
        "a-name-of-sixty-four-characters-which-is-one-more-than-there-may",
    };
    assert_int_equal(strlen(names[ARRAY_LEN(names) - 1]), RAFT_NAME_BYTES_MAX + 1);
    struct place p;
    place_begin(&p);
    for (size_t i = 0; i < 2 * ARRAY_LEN(names); i++) {
        struct group *g = NULL;
        struct errmsg em = { "" };
        p.options.name = names[i / 2];
        p.options.join = i % 2 == 0 ? "" : "h:7379";
        assert_int_equal(look(&p, &g, &em), ERR_CONFIG);
        assert_non_null(strstr(em.text, "'name'"));
    }
    save_identity(&p, true); /* one that has its name already goes on */
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        p.options.name = names[i];
        group_free(must_look(&p, OK));
    }
    place_end(&p);
}

static void test_what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct place p;
    struct group *g = NULL;
    struct errmsg em = { "" };
    place_begin(&p);
    p.options.initial_cluster = "n1=h:1";
    p.options.join = "h:1";
    assert_int_equal(look(&p, &g, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "exclude each other"));
    p.options.join = "";
    p.options.initial_cluster = "n2=h:1";
    assert_int_equal(look(&p, &g, &em), ERR_CONFIG);
    p.options.initial_cluster = "";
    p.options.join = "nowhere";
    assert_int_equal(look(&p, &g, &em), ERR_CONFIG);
    save_identity(&p, false);
    save_record(&p, GROUP_FOUNDED, 301); /* of another directory */
    assert_int_equal(look(&p, &g, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, p.dir));
    place_end(&p);

    place_begin(&p);
    p.options.join = "h:1";
    char path[128];
    snprintf(path, sizeof path, "%s/stranger", p.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(look(&p, &g, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "not empty"));
    assert_null(g);
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_options_node_makes_a_group_of_one),
        cmocka_unit_test(test_a_list_of_one_is_founded_and_kept),
        cmocka_unit_test(test_ids_stay_while_it_waits),
        cmocka_unit_test(test_a_directory_that_belongs_to_a_group_stays_there),
        cmocka_unit_test(test_who_was_let_in_goes_on_without_asking_again),
        cmocka_unit_test(test_a_name_has_to_fit_a_new_directory),
        cmocka_unit_test(test_what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests_name("server/group", tests, NULL, NULL);
}
